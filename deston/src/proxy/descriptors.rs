//! The process's limit of open descriptors, raised as far as it may be.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Assumed when the limit cannot be read: the usual default.
const USUAL: usize = 1_024;

/// Raises the soft limit to the hard limit and returns what holds.
pub(super) fn raise_limit() -> usize {
    let (soft, hard) = match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok(limits) => limits,
        Err(error) => {
            tracing::warn!(%error, "the limit of open files cannot be read");
            return USUAL;
        }
    };
    if soft >= hard {
        return usize::try_from(soft).unwrap_or(usize::MAX);
    }
    let now = match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => {
            tracing::debug!(from = soft, to = hard, "limit of open files raised");
            hard
        }
        Err(error) => {
            tracing::warn!(soft, hard, %error, "the limit of open files cannot be raised");
            soft
        }
    };
    usize::try_from(now).unwrap_or(usize::MAX)
}
