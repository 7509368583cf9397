//! Reads and writes the addresses that a pool listens on.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV6, ToSocketAddrs};
use std::path::{Path, PathBuf};

use crate::checked::Address;
use crate::limits::{FD_NAME_BYTES_MAX, UNIX_BYTES_MAX};
use crate::mistakes::Fault;

/// Turns a host name and a port into an address; a function, so that tests need no network.
pub type Lookup = fn(&str, u16) -> io::Result<SocketAddr>;

impl fmt::Display for Address {
    /// The form in which it can be typed: `unix:PATH` as it was typed, `unix:@NAME`, `tcp:HOST:PORT`, `fd:NAME`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::UnixPath { shown, .. } => write!(f, "unix:{shown}"),
            Address::UnixAbstract(name) => write!(f, "unix:@{name}"),
            Address::Tcp(addr) => write!(f, "tcp:{addr}"),
            Address::Given(name) => write!(f, "fd:{name}"),
        }
    }
}

/// Reads an address; a relative path is one of `dir`.
pub(crate) fn parse_address(typed: &str, dir: &Path, lookup: Lookup) -> Result<Address, Fault> {
    if let Some(name) = typed.strip_prefix("unix:@") {
        parse_abstract(name)
    } else if let Some(path) = typed.strip_prefix("unix:") {
        let full = resolve_socket_path(path, dir)?;
        Ok(Address::UnixPath { path: full, shown: path.to_owned() })
    } else if let Some(rest) = typed.strip_prefix("tcp:") {
        parse_tcp(rest, lookup).map(Address::Tcp)
    } else if let Some(name) = typed.strip_prefix("fd:") {
        parse_given(name)
    } else {
        Err(Fault::new(format!("{typed:?} is not an address"), "expected unix: or tcp:", guess(typed)))
    }
}

/// Makes the path of a socket absolute and sees that the kernel can take it.
pub(crate) fn resolve_socket_path(typed: &str, dir: &Path) -> Result<PathBuf, Fault> {
    if typed.is_empty() {
        return Err(Fault::new("there is no path", "expected a path", "write a path, such as \"unix:/run/web.sock\""));
    }
    if typed.contains('\0') {
        return Err(Fault::new("a path cannot contain NUL", "contains NUL", "remove the \\u0000"));
    }
    let full: PathBuf = dir.join(typed).components().collect();
    if typed.ends_with('/') || typed.ends_with("/.") || full.file_name().is_none() {
        let remedy = format!("add the name of the socket: {:?}", format!("{}/web.sock", typed.trim_end_matches('/')));
        return Err(Fault::new(format!("{typed:?} names a directory"), "a directory", remedy));
    }
    let bytes = full.as_os_str().len();
    if bytes > UNIX_BYTES_MAX {
        return Err(Fault::new(
            format!("the path {} has {bytes} bytes, the kernel takes at most {UNIX_BYTES_MAX}", full.display()),
            "too long",
            "use a shorter path, such as one in /run",
        ));
    }
    Ok(full)
}

/// Asks the system's resolver and takes its first answer.
pub(crate) fn system_lookup(host: &str, port: u16) -> io::Result<SocketAddr> {
    let found = (host, port).to_socket_addrs()?.next();
    found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address"))
}

fn parse_abstract(name: &str) -> Result<Address, Fault> {
    if name.is_empty() {
        return Err(Fault::new("the abstract name is empty", "expected a name", "write a name: \"unix:@web\""));
    }
    if name.contains('\0') {
        return Err(Fault::new("an abstract name cannot contain NUL", "contains NUL", "remove the \\u0000"));
    }
    if name.len() > UNIX_BYTES_MAX {
        return Err(Fault::new(
            format!("the abstract name has {} bytes, the kernel takes at most {UNIX_BYTES_MAX}", name.len()),
            "too long",
            "use a shorter name",
        ));
    }
    Ok(Address::UnixAbstract(name.to_owned()))
}

/// A name as sd_listen_fds_with_names(3) hands it over: LISTEN_FDNAMES separates them by colons.
fn parse_given(name: &str) -> Result<Address, Fault> {
    if name.is_empty() {
        let remedy = "write the FileDescriptorName= of the socket unit: \"fd:web\"";
        return Err(Fault::new("there is no name", "expected a name", remedy));
    }
    if name.len() > FD_NAME_BYTES_MAX {
        let message = format!("the name has {} bytes, a descriptor's has at most {FD_NAME_BYTES_MAX}", name.len());
        return Err(Fault::new(message, "too long", "use a shorter FileDescriptorName="));
    }
    if !name.bytes().all(|b| b.is_ascii_graphic() && b != b':') {
        let message = format!("{name:?} is not the name of a descriptor");
        let remedy = "use letters, digits and signs without colons and spaces, as FileDescriptorName= does";
        return Err(Fault::new(message, "not a name", remedy));
    }
    if name.starts_with(STORED_PREFIX) {
        let message =
            format!("{name:?} is reserved: ostler keeps its own listeners under names with {STORED_PREFIX:?}");
        return Err(Fault::new(message, "reserved", "choose another FileDescriptorName="));
    }
    Ok(Address::Given(name.to_owned()))
}

fn parse_tcp(rest: &str, lookup: Lookup) -> Result<SocketAddr, Fault> {
    if let Some(bracketed) = rest.strip_prefix('[') {
        let Some((host, port)) = bracketed.split_once("]:") else {
            let remedy = "write the port behind the bracket: \"tcp:[::1]:8080\"";
            return Err(Fault::new(format!("\"tcp:{rest}\" has no port"), "expected ]:PORT", remedy));
        };
        let port = parse_port(port)?;
        return format!("[{host}]:{port}").parse::<SocketAddrV6>().map(SocketAddr::V6).map_err(|_| {
            let remedy = "write an IPv6 address between the brackets, names and IPv4 without brackets";
            Fault::new(format!("{host:?} is not an IPv6 address"), "not an IPv6 address", remedy)
        });
    }
    let Some((host, port)) = rest.rsplit_once(':') else {
        let digits = !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit());
        let remedy = if digits {
            format!("say on which address: \"tcp:127.0.0.1:{rest}\" or \"tcp:0.0.0.0:{rest}\" for all")
        } else {
            format!("add the port: \"tcp:{}:8080\"", if rest.is_empty() { "127.0.0.1" } else { rest })
        };
        return Err(Fault::new(format!("\"tcp:{rest}\" is not HOST:PORT"), "expected HOST:PORT", remedy));
    };
    if host.contains(':') {
        let remedy = format!("put an IPv6 address into brackets: \"tcp:[{host}]:{port}\"");
        return Err(Fault::new(format!("\"tcp:{rest}\" has too many colons"), "expected HOST:PORT", remedy));
    }
    let port = parse_port(port)?;
    match host.parse::<Ipv4Addr>() {
        Ok(ip) => Ok(SocketAddr::from((ip, port))),
        Err(_) => parse_host(host, port, lookup),
    }
}

fn parse_host(host: &str, port: u16, lookup: Lookup) -> Result<SocketAddr, Fault> {
    if host.is_empty() || host == "*" {
        let remedy = format!("write \"tcp:0.0.0.0:{port}\" or \"tcp:[::]:{port}\" for every address of this machine");
        return Err(Fault::new(format!("{host:?} is not a host"), "which address?", remedy));
    }
    let plain = host.len() <= HOST_BYTES_MAX
        && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
    // The resolver takes `127.1` and `2130706433` for addresses; nobody types them on purpose.
    let numeric = host.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if !plain || numeric {
        let remedy = format!("write a name or an address: \"tcp:localhost:{port}\", \"tcp:127.0.0.1:{port}\"");
        return Err(Fault::new(format!("{host:?} is not a host"), "not a host", remedy));
    }
    lookup(host, port).map_err(|error| {
        let remedy = "check the spelling, or write the address in numbers";
        Fault::new(format!("cannot find the host {host:?}: {error}"), "unknown host", remedy)
    })
}

fn parse_port(typed: &str) -> Result<u16, Fault> {
    let digits = !typed.is_empty() && typed.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| typed.parse().ok()).flatten().ok_or_else(|| {
        Fault::new(format!("{typed:?} is not a port"), "expected a port", "write a port from 0 (any free one) to 65535")
    })
}

fn guess(typed: &str) -> String {
    let is_path = typed.starts_with(['/', '.', '@']);
    let is_host = typed.rsplit_once(':').is_some_and(|(_, port)| parse_port(port).is_ok());
    if is_path {
        format!("write \"unix:{typed}\"")
    } else if is_host && !typed.contains('/') {
        format!("write \"tcp:{typed}\"")
    } else {
        "write unix:PATH, unix:@NAME, tcp:HOST:PORT, tcp:[V6]:PORT or fd:NAME".to_owned()
    }
}

/// What the names begin with under which a service manager keeps listeners of ours for the next start.
pub const STORED_PREFIX: &str = "ostler.";

/// Longest host name of the domain name system.
const HOST_BYTES_MAX: usize = 253;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lookup(host: &str, port: u16) -> io::Result<SocketAddr> {
        match host {
            "localhost" => Ok(SocketAddr::from(([127, 0, 0, 1], port))),
            _ => Err(io::Error::other("no such name")),
        }
    }

    fn parse(typed: &str) -> Result<Address, Fault> {
        parse_address(typed, Path::new("/srv/app"), lookup)
    }

    #[test]
    fn each_form_is_read_and_shown_as_it_can_be_typed() {
        for (typed, shown) in [
            ("unix:/run/web.sock", "unix:/run/web.sock"),
            ("unix:web.sock", "unix:web.sock"),
            ("unix:@web", "unix:@web"),
            ("tcp:127.0.0.1:80", "tcp:127.0.0.1:80"),
            ("tcp:localhost:80", "tcp:127.0.0.1:80"),
            ("tcp:[::1]:80", "tcp:[::1]:80"),
            ("tcp:[0:0::1]:0", "tcp:[::1]:0"),
            ("fd:web", "fd:web"),
            ("fd:web.socket", "fd:web.socket"),
        ] {
            let address = parse(typed).unwrap();
            assert_eq!(address.to_string(), shown);
            assert_eq!(parse(&address.to_string()).unwrap(), address);
        }
    }

    #[test]
    fn a_relative_path_is_one_of_the_files_directory() {
        let path = PathBuf::from("/srv/app/run/web.sock");
        assert_eq!(parse("unix:./run/web.sock"), Ok(Address::UnixPath { path, shown: "./run/web.sock".to_owned() }));
    }

    #[test]
    fn a_unix_path_of_107_bytes_is_taken_and_one_more_is_refused_by_number() {
        let longest = format!("unix:/{}", "x".repeat(106));
        assert!(parse(&longest).is_ok());
        assert!(parse(&format!("{longest}x")).unwrap_err().message.contains("108 bytes"));
        // Relative: `/srv/app/` counts.
        assert!(parse(&format!("unix:{}", "x".repeat(98))).is_ok());
        assert!(parse(&format!("unix:{}", "x".repeat(99))).unwrap_err().message.contains("108 bytes"));
        assert!(parse(&format!("unix:@{}", "x".repeat(107))).is_ok());
        assert!(parse(&format!("unix:@{}", "x".repeat(108))).unwrap_err().message.contains("108 bytes"));
    }

    #[test]
    fn the_remedy_fits_what_was_typed() {
        for (typed, remedy) in [
            ("/run/web.sock", "unix:/run/web.sock"),
            ("127.0.0.1:80", "tcp:127.0.0.1:80"),
            ("http://localhost:80", "unix:PATH"),
            ("", "unix:PATH"),
            ("unix:", "a path"),
            ("unix:@", "unix:@web"),
            ("unix:/run/", "/run/web.sock"),
            ("unix:..", "web.sock"),
            ("unix:a\0b", "NUL\\u0000"),
            ("tcp:", "tcp:127.0.0.1:8080"),
            ("tcp:80", "tcp:127.0.0.1:80"),
            ("tcp:localhost", "tcp:localhost:8080"),
            ("tcp::80", "tcp:0.0.0.0:80"),
            ("tcp:*:80", "tcp:[::]:80"),
            ("tcp:::1:80", "tcp:[::1]:80"),
            ("tcp:[::1]", "tcp:[::1]:8080"),
            ("tcp:[nonsense]:80", "without brackets"),
            ("tcp:localhost:99999", "65535"),
            ("tcp:localhost:+80", "65535"),
            ("tcp:127.1:80", "tcp:127.0.0.1:80"),
            ("tcp:no/host:80", "tcp:localhost:80"),
            ("tcp:nowhere.example:80", "spelling"),
            ("fd:", "fd:web"),
            ("fd:a:b", "without colons"),
            ("fd:a b", "without colons"),
            ("fd:ostler.web", "choose another"),
        ] {
            let fault = parse(typed).unwrap_err();
            let wanted = remedy.trim_start_matches("NUL");
            assert!(fault.remedy.contains(wanted), "{typed:?}: {fault:?}");
        }
    }

    #[test]
    fn the_name_of_a_descriptor_has_at_most_255_bytes() {
        assert_eq!(parse(&format!("fd:{}", "x".repeat(255))), Ok(Address::Given("x".repeat(255))));
        assert!(parse(&format!("fd:{}", "x".repeat(256))).unwrap_err().message.contains("256 bytes"));
    }

    proptest! {
        #[test]
        fn no_text_panics_the_reader(typed in "(unix:|tcp:|fd:)?\\PC*") {
            let _ = parse(&typed);
        }
    }
}
