//! Checks whom workers run as: `user`, `group` and `groups`.
//!
//! Names are looked up here and nowhere later: between fork and exec nobody can ask a user database.

use super::Site;
use crate::asked::{Asked, Typed};
use crate::caller::{Caller, Right};
use crate::checked::Account;
use crate::limits::GROUPS_MAX;
use crate::mistakes::{Fault, Mistake};
use crate::owner;
use crate::raw::RawTable;

/// Whom workers run as. What is `None` is as the supervisor has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) user: Option<Account>,
    pub(super) group: Option<u32>,
    pub(super) groups: Option<Vec<u32>>,
}

pub(super) fn identity(table: &RawTable<'_>, site: &Site<'_>, mistakes: &mut Vec<Mistake>) -> Identity {
    let caller = site.caller;
    let user = table
        .text_or_number("user", mistakes)
        .understand(mistakes, |typed| owner::account(&typed))
        .understand(mistakes, |account| may_become(&account, caller).map_or(Ok(account), Err));
    let group = table
        .text_or_number("group", mistakes)
        .understand(mistakes, |typed| owner::group(&typed))
        .understand(mistakes, |group| may_change_group(group, caller).map_or(Ok(group), Err));
    let groups = groups(table, caller, mistakes);
    let chosen = Identity { user: None, group: group.clone().value(), groups: groups.clone().value() };
    // Beside a mistake nothing is filled in: what follows from it would be another one.
    match (user, group, groups) {
        (Asked::For(user), Asked::Nothing | Asked::For(_), Asked::Nothing | Asked::For(_)) => {
            filled_in(&user, chosen, caller, mistakes)
        }
        (_, _, _) => chosen,
    }
}

fn groups(table: &RawTable<'_>, caller: &Caller, mistakes: &mut Vec<Mistake>) -> Asked<Vec<u32>> {
    let list = match table.texts_or_numbers("groups", mistakes) {
        Asked::Nothing => return Asked::Nothing,
        Asked::Wrong => return Asked::Wrong,
        Asked::For(list) => list,
    };
    let missing = caller.missing(&[Right::Groups]);
    if !missing.is_empty() {
        mistakes.push(list.refuse(only_root("choose the groups of workers", caller, &missing)));
        return Asked::Wrong;
    }
    if list.value.len() > GROUPS_MAX {
        let message = format!("{} groups, the limit is {GROUPS_MAX}", list.value.len());
        mistakes.push(list.refuse(Fault::new(message, "too many", "remove some")));
        return Asked::Wrong;
    }
    let mut found = Vec::new();
    for item in &list.value {
        match owner::group(&item.value) {
            Ok(group) => found.push(group),
            Err(fault) => mistakes.push(item.refuse(fault)),
        }
    }
    if found.len() < list.value.len() {
        return Asked::Wrong;
    }
    found.sort_unstable();
    found.dedup();
    Asked::For(list.with(found))
}

/// The groups that a user has by being that user.
fn filled_in(user: &Typed<Account>, chosen: Identity, caller: &Caller, mistakes: &mut Vec<Mistake>) -> Identity {
    let account = user.value.clone();
    // An unprivileged supervisor stays what it is.
    if !caller.missing(&[Right::Groups]).is_empty() {
        return Identity { user: Some(account), ..chosen };
    }
    let Some(group) = chosen.group.or(account.entry.as_ref().map(|entry| entry.group)) else {
        let message = format!("user {} is not in the user database, so nobody knows its group", account.uid);
        mistakes.push(user.refuse(Fault::new(message, "no group known", "say the group as well: group = \"app\"")));
        return Identity { user: Some(account), ..chosen };
    };
    let groups = match chosen.groups {
        Some(groups) => groups,
        None => owner::groups_of(&account, group).unwrap_or_else(|fault| {
            mistakes.push(user.refuse(fault));
            Vec::new()
        }),
    };
    Identity { user: Some(account), group: Some(group), groups: Some(groups) }
}

fn may_become(account: &Account, caller: &Caller) -> Option<Fault> {
    if account.uid == caller.uid {
        return None;
    }
    // Without KILL a supervisor could not stop what it started.
    let missing = caller.missing(&[Right::User, Right::Groups, Right::Kill]);
    (!missing.is_empty()).then(|| only_root("start workers as another user", caller, &missing))
}

fn may_change_group(group: u32, caller: &Caller) -> Option<Fault> {
    if group == caller.gid {
        return None;
    }
    let missing = caller.missing(&[Right::Groups]);
    (!missing.is_empty()).then(|| only_root("start workers in another group", caller, &missing))
}

fn only_root(what: &str, caller: &Caller, missing: &[&str]) -> Fault {
    let lacking = missing.join(", ");
    Fault::new(
        format!("only root may {what}, and this is user {}, who lacks {lacking}", caller.uid),
        "not permitted",
        "start ostler as root, or remove it",
    )
}
