//! Finds and downloads models.
//!
//! A user names a model by a file, a folder, `org/repo[:quant]` in Hugging Face's cache, or `ollama:name[:tag]`.
//! [`resolve`] finds it, [`list`] lists the caches, and `pull` (a feature) downloads one into Hugging Face's cache in
//! the layout of `huggingface_hub`, so that other programs find it too.
//!
//! The crate reads no environment: the caller fills in [`Locations`]. It looks at names and sizes, not into models;
//! their reader judges the contents. Names come from users, manifests and hubs, and none of them leads out of the
//! cache that it belongs to.

mod choice;
mod error;
mod folder;
mod found;
mod hub_cache;
mod list;
mod locations;
mod name;
mod ollama;
#[cfg(feature = "pull")]
mod pull;
mod resolve;

pub use error::{HubError, Result};
pub use found::{Kind, Resolved};
pub use list::{Listed, Source, list};
pub use locations::Locations;
#[cfg(feature = "pull")]
pub use pull::{Progress, PullOptions, pull};
pub use resolve::resolve;
