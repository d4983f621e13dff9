//! What a weight is: quantised formats, their block layout, and their reference codecs.
//!
//! This crate never computes with weights and knows no file format; backends own the fast paths.

#![forbid(unsafe_code)]

pub mod format;
pub mod shape;

pub use format::{Codec, FORMATS, Format, FormatError, FormatInfo};
pub use shape::Shape;
