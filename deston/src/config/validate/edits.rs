//! Changes to header fields, as the model has them.

use crate::config::file;
use crate::model::{Edits, MessageEdits};

/// Both kinds of message.
pub(super) fn edits(file: &file::MessageEdits) -> Option<MessageEdits> {
    Some(MessageEdits { request: of_one(&file.request)?, response: of_one(&file.response)? })
}

fn of_one(file: &file::Edits) -> Option<Edits> {
    Some(Edits {
        remove: file.remove.or(Vec::new())?,
        set: file.set.or(Vec::new())?,
        add: file.add.or(Vec::new())?,
    })
}
