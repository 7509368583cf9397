//! Turns the names of users and groups into numbers.

use std::ffi::CString;

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};

use crate::checked::{Account, Entry};
use crate::mistakes::Fault;

/// The account of this name or number. A number need not be in the user database.
pub(crate) fn account(typed: &str) -> Result<Account, Fault> {
    let uid = user(typed)?;
    let found = User::from_uid(Uid::from_raw(uid)).map_err(|error| {
        let message = format!("cannot look up the user {typed:?}: {}", error.desc());
        Fault::new(message, "not looked up", "try again, or look at the user database: getent passwd")
    })?;
    let entry = found.map(|user| Entry { name: user.name, home: user.dir, group: user.gid.as_raw() });
    Ok(Account { uid, entry })
}

/// Every group that `account` is in, `group` included, ascending.
pub(crate) fn groups_of(account: &Account, group: u32) -> Result<Vec<u32>, Fault> {
    let Some(entry) = &account.entry else { return Ok(vec![group]) };
    let name = CString::new(entry.name.as_str()).expect("the name came from a C text");
    let found = getgrouplist(&name, Gid::from_raw(group)).map_err(|error| {
        let message = format!("cannot look up the groups of {:?}: {}", entry.name, error.desc());
        Fault::new(message, "not looked up", "write them down: groups = [\"video\"]")
    })?;
    let mut groups: Vec<u32> = found.into_iter().map(Gid::as_raw).collect();
    groups.sort_unstable();
    groups.dedup();
    Ok(groups)
}

/// The user of this name, or the number itself.
pub(crate) fn user(typed: &str) -> Result<u32, Fault> {
    number_or(typed, "user", "getent passwd", |name| Ok(User::from_name(name)?.map(|user| user.uid.as_raw())))
}

/// The group of this name, or the number itself.
pub(crate) fn group(typed: &str) -> Result<u32, Fault> {
    number_or(typed, "group", "getent group", |name| Ok(Group::from_name(name)?.map(|group| group.gid.as_raw())))
}

fn number_or(
    typed: &str,
    kind: &str,
    lister: &str,
    find: impl FnOnce(&str) -> nix::Result<Option<u32>>,
) -> Result<u32, Fault> {
    if !typed.is_empty() && typed.bytes().all(|b| b.is_ascii_digit()) {
        // The largest number means "leave as it is" to chown(2).
        return typed.parse().ok().filter(|&number| number != u32::MAX).ok_or_else(|| {
            Fault::new(format!("{typed} is too large for a {kind}"), "too large", format!("write the name of a {kind}"))
        });
    }
    // A NUL would make a name that the system's tables cannot be asked for.
    let found = if typed.is_empty() || typed.contains('\0') { Ok(None) } else { find(typed) };
    match found {
        Ok(Some(number)) => Ok(number),
        Ok(None) => Err(Fault::new(
            format!("there is no {kind} {typed:?}"),
            format!("unknown {kind}"),
            format!("create it, or choose one of `{lister}`"),
        )),
        Err(error) => Err(Fault::new(
            format!("cannot look up the {kind} {typed:?}: {}", error.desc()),
            "not looked up",
            format!("write the number of the {kind}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_taken() {
        assert_eq!(user("root"), Ok(0));
        assert_eq!(group("root"), Ok(0));
        assert_eq!(user("12345"), Ok(12345));
    }

    #[test]
    fn an_account_has_what_the_database_says_of_it() {
        let root = account("root").unwrap();
        assert_eq!(root, account("0").unwrap());
        assert_eq!(root.entry, Some(Entry { name: "root".to_owned(), home: "/root".into(), group: 0 }));
        assert!(groups_of(&root, 12_345).unwrap().contains(&12_345), "the group that was asked for is among them");
    }

    #[test]
    fn a_number_needs_no_entry() {
        let stranger = account("54321").unwrap();
        assert_eq!(stranger, Account { uid: 54_321, entry: None });
        assert_eq!(groups_of(&stranger, 7), Ok(vec![7]));
    }

    #[test]
    fn unknown_names_and_the_number_of_nobody_are_refused() {
        for typed in ["", "no-such-user-here", "a\0b", "-1", "4294967295", "99999999999"] {
            assert!(user(typed).is_err(), "{typed:?}");
            assert!(group(typed).is_err(), "{typed:?}");
        }
    }
}
