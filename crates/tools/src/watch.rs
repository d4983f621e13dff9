//! How far work is, and whether it should go on.

use std::ops::ControlFlow;

use crate::error::ToolError;

/// Where a tool is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress<'a> {
    /// The tensor or file that is being worked on.
    pub name: &'a str,
    /// Bytes that are done.
    pub done_bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
}

/// Hears [`Progress`] often, and ends the work by answering `Break`: nothing is then left behind.
pub type Watch<'a> = dyn FnMut(Progress<'_>) -> ControlFlow<()> + 'a;

/// A [`Watch`] with its count of bytes.
pub(crate) struct Meter<'w, 'a> {
    watch: &'w mut Watch<'a>,
    done_bytes: u64,
    total_bytes: u64,
}

impl<'w, 'a> Meter<'w, 'a> {
    pub(crate) fn new(watch: &'w mut Watch<'a>, total_bytes: u64) -> Meter<'w, 'a> {
        Meter { watch, done_bytes: 0, total_bytes }
    }

    /// Counts `bytes` of `name` as done.
    pub(crate) fn add(&mut self, name: &str, bytes: u64) -> Result<(), ToolError> {
        self.done_bytes = self.done_bytes.saturating_add(bytes);
        let progress = Progress { name, done_bytes: self.done_bytes, total_bytes: self.total_bytes };
        match (self.watch)(progress) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(ToolError::Cancelled),
        }
    }
}
