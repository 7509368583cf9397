//! Says what a file asks of one key: nothing, something wrong, or a value with its place.

use crate::mistakes::{Fault, Mistake, Span};

/// A value, where it stands, and the path of its key as people write it (`pool.web.workers`).
#[derive(Debug, Clone)]
pub(crate) struct Typed<T> {
    pub(crate) value: T,
    pub(crate) span: Span,
    pub(crate) path: String,
}

/// What a file asks of a key.
#[derive(Debug, Clone)]
pub(crate) enum Asked<T> {
    /// The key is not there.
    Nothing,
    /// It is there and wrong, which was reported.
    Wrong,
    /// It asks for this.
    For(Typed<T>),
}

impl<T> Typed<T> {
    /// The same place with another value.
    pub(crate) fn with<U>(&self, value: U) -> Typed<U> {
        Typed { value, span: self.span.clone(), path: self.path.clone() }
    }

    /// Reports something about it.
    pub(crate) fn refuse(&self, fault: Fault) -> Mistake {
        fault.at(&self.path, self.span.clone())
    }
}

impl<T> Asked<T> {
    /// Goes on to what a value means; a fault is reported where the value stands.
    pub(crate) fn understand<U>(
        self,
        mistakes: &mut Vec<Mistake>,
        meaning: impl FnOnce(T) -> Result<U, Fault>,
    ) -> Asked<U> {
        match self {
            Asked::Nothing => Asked::Nothing,
            Asked::Wrong => Asked::Wrong,
            Asked::For(Typed { value, span, path }) => match meaning(value) {
                Ok(value) => Asked::For(Typed { value, span, path }),
                Err(fault) => {
                    mistakes.push(fault.at(&path, span));
                    Asked::Wrong
                }
            },
        }
    }

    /// The value, where one was typed well.
    pub(crate) fn value(self) -> Option<T> {
        match self {
            Asked::For(typed) => Some(typed.value),
            Asked::Nothing | Asked::Wrong => None,
        }
    }

    /// The value and its place, where one was typed well.
    pub(crate) fn typed(&self) -> Option<&Typed<T>> {
        match self {
            Asked::For(typed) => Some(typed),
            Asked::Nothing | Asked::Wrong => None,
        }
    }
}

impl<T: Clone> Asked<T> {
    /// What will be in force: the value or the default. `None` when it was typed wrongly, so that nobody
    /// compares another key with a value that the user did not ask for.
    pub(crate) fn in_force(&self, default: T) -> Option<T> {
        match self {
            Asked::For(typed) => Some(typed.value.clone()),
            Asked::Nothing => Some(default),
            Asked::Wrong => None,
        }
    }
}
