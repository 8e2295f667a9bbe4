//! How much trouble a pool takes for a request.

use crate::config::file;
use crate::model::{Queue, Treatment};

/// The keys of a pool that say so.
pub(super) fn treatment(file: &file::Pool) -> Option<Treatment> {
    let default = Treatment::default();
    Some(Treatment {
        queue: queue(&file.queue, default.queue)?,
        overflow: file.overflow.or(default.overflow)?,
    })
}

fn queue(file: &file::Queue, default: Queue) -> Option<Queue> {
    Some(Queue { size: file.size.or(default.size)?, timeout: file.timeout.or(default.timeout)? })
}
