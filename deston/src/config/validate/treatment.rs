//! How much trouble a pool takes for a request.

use crate::config::file;
use crate::config::names::RetryOn;
use crate::model::{Queue, Retry, Treatment};

/// The keys of a pool that say so.
pub(super) fn treatment(file: &file::Pool) -> Option<Treatment> {
    let default = Treatment::default();
    Some(Treatment {
        queue: queue(&file.queue, default.queue)?,
        overflow: file.overflow.or(default.overflow)?,
        retry: retry(&file.retry, default.retry)?,
        count_5xx: file.outlier.count_5xx.or(default.count_5xx)?,
        load_factor: file.load_factor.or(default.load_factor)?,
    })
}

fn queue(file: &file::Queue, default: Queue) -> Option<Queue> {
    Some(Queue { size: file.size.or(default.size)?, timeout: file.timeout.or(default.timeout)? })
}

fn retry(file: &file::Retry, default: Retry) -> Option<Retry> {
    let on = file.on.or(vec![RetryOn::Connect, RetryOn::Reset])?;
    Some(Retry {
        attempts: file.attempts.or(default.attempts)?,
        on_connect: on.contains(&RetryOn::Connect),
        on_reset: on.contains(&RetryOn::Reset),
        on_5xx: on.contains(&RetryOn::ServerError),
        budget: file.budget.or(default.budget)?,
        floor: file.floor.or(default.floor)?,
        replay_bytes: usize::try_from(file.replay_bytes.or(0)?).ok()?,
    })
}
