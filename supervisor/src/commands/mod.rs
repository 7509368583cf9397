//! Carries out each command.

pub(crate) mod ask;
pub(crate) mod check;
pub(crate) mod generate;
pub(crate) mod init;
mod lines;
pub(crate) mod logs;
pub(crate) mod progress;
pub(crate) mod run;
pub(crate) mod say;
pub(crate) mod status;
mod terminal;
pub(crate) mod top;
pub(crate) mod trace;
