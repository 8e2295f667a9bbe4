//! Deston.
