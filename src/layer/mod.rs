//! A blob as a *layer delta*: what rebuilds it, bit for bit, from the plain bytes of baseline blobs.
//!
//! Joins the two halves: [`crate::gzip`] takes the compression off and puts it on again,
//! [`crate::delta`] says the plain bytes in terms of old ones. `docs/deltas.md` is the authority on
//! the entry that holds both. This module promises that [`LayerDelta::rebuild`] gives the blob with its
//! digest or fails, in bounded memory. It knows no registry and no payload; temporary files have no
//! name and lie in the folder that it is given.

mod apart;
mod error;
mod head;
mod make;
mod rebuild;

pub use apart::{Apart, Recipe};
pub use error::LayerError;
pub use make::{MadeLayer, make};
pub use rebuild::LayerDelta;
