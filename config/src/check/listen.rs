//! Checks where pools listen, each by itself and all against each other.

use std::path::PathBuf;

use super::Site;
use crate::address::parse_address;
use crate::asked::{Asked, Typed};
use crate::checked::Address;
use crate::clash::{Apart, clash};
use crate::combine;
use crate::limits::LISTEN_MAX;
use crate::mistakes::{Fault, Mistake};
use crate::raw::RawTable;

/// The addresses of all pools so far.
#[derive(Debug)]
pub(super) struct Listeners {
    control: Option<Typed<PathBuf>>,
    taken: Vec<Typed<Address>>,
}

impl Listeners {
    pub(super) fn new(control: &Asked<PathBuf>) -> Listeners {
        Listeners { control: control.typed().cloned(), taken: Vec::new() }
    }

    /// The addresses of one pool. `None` when one of them is wrong or there is none, which was reported.
    pub(super) fn of_pool(
        &mut self,
        table: &RawTable<'_>,
        site: &Site<'_>,
        mistakes: &mut Vec<Mistake>,
    ) -> Option<Vec<Address>> {
        let list = match table.texts("listen", mistakes) {
            Asked::For(list) => list,
            Asked::Wrong => return None,
            Asked::Nothing => {
                table.lacks("listen", mistakes);
                return None;
            }
        };
        let count = list.value.len();
        if count == 0 || count > LISTEN_MAX {
            let message = format!("{count} addresses, the limits are 1 and {LISTEN_MAX}");
            let remedy = format!("write 1 to {LISTEN_MAX} addresses, such as \"unix:/run/web.sock\"");
            mistakes.push(list.refuse(Fault::new(message, "wrong number of addresses", remedy)));
            return None;
        }
        let own_from = self.taken.len();
        let mut found = Vec::new();
        for typed in &list.value {
            match parse_address(typed.value, site.dir, site.lookup) {
                Ok(address) => {
                    self.take(typed.with(address.clone()), own_from, mistakes);
                    found.push(address);
                }
                Err(fault) => mistakes.push(typed.refuse(fault)),
            }
        }
        (found.len() == count).then_some(found)
    }

    /// The one address of `[admin]`. `None` when it is wrong or there is none, which was reported.
    pub(super) fn of_admin(
        &mut self,
        table: &RawTable<'_>,
        site: &Site<'_>,
        mistakes: &mut Vec<Mistake>,
    ) -> Option<Address> {
        let typed = match table.text("listen", mistakes) {
            Asked::For(typed) => typed,
            Asked::Wrong => return None,
            Asked::Nothing => {
                table.lacks("listen", mistakes);
                return None;
            }
        };
        match parse_address(typed.value, site.dir, site.lookup) {
            Ok(address) => {
                self.take(typed.with(address.clone()), self.taken.len(), mistakes);
                Some(address)
            }
            Err(fault) => {
                mistakes.push(typed.refuse(fault));
                None
            }
        }
    }

    /// Notes an address; `own_from` is where those of its own pool begin.
    fn take(&mut self, new: Typed<Address>, own_from: usize, mistakes: &mut Vec<Mistake>) {
        let clashing = self.taken.iter().enumerate().find_map(|(at, old)| {
            let apart = if at < own_from { Apart::OtherPool } else { Apart::SamePool };
            clash(&old.value, &new.value, apart).map(|why| (old, why))
        });
        if let Some((old, why)) = clashing {
            let message = format!("{} clashes with {} of {}: {why}", new.value, old.value, old.path);
            let fault = Fault::new(message, "listened on twice", "remove one of the two");
            let also = Some((old.span.clone(), "first here".to_owned()));
            mistakes.push(Mistake { also, ..new.refuse(fault) });
        }
        if let Some(control) = &self.control
            && let Some(fault) = combine::control_is_free(&control.value, std::iter::once(&new.value))
        {
            let also = Some((new.span.clone(), "a listener".to_owned()));
            mistakes.push(Mistake { also, ..control.refuse(fault) });
        }
        self.taken.push(new);
    }
}
