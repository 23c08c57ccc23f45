//! kharon carries container images across an air gap as payloads: zips with what the far registry
//! lacks, and nothing else.
//!
//! ```text
//! connected side                         the gap                       air-gapped side
//! registry ─┐                                                            ┌─ registry
//!           ├─ make_payload ── payload.zip (only what is missing) ── push_payload
//! baseline ─┘        ▲                                                   │
//!                    └────────────── receipt / inventory ────────────────┘
//! ```
//!
//! [`make_payload`] resolves images at their registries, plans what travels, and writes one payload.
//! [`expand()`] writes all that payloads bring as plain
//! files. [`push_payload`] brings a payload into the registry at the far side: blobs first, then manifests,
//! then indexes, and tags last. [`inventory()`] lists what a registry holds. All are async functions for a tokio
//! runtime; they use no terminal, end no process and keep no global state. What happens meanwhile goes to a
//! [`Reporter`](progress::Reporter).
//!
//! ```no_run
//! use std::sync::Arc;
//! use kharon::make::{Destination, MakeRequest, parse_images};
//! use kharon::payload::Payload;
//! use kharon::progress::Silent;
//! use kharon::push::PushRequest;
//! use kharon::reference::RegistryHost;
//!
//! # async fn carry() -> anyhow::Result<()> {
//! let images = parse_images(&["python:3.9, redis:7"], &RegistryHost::docker_hub())?;
//! let destination = Destination::File("payload.zip".into());
//! kharon::make_payload(MakeRequest::new(images), destination, Arc::new(Silent)).await?;
//!
//! // At the far side:
//! let payload = Arc::new(Payload::open("payload.zip".as_ref())?);
//! let request = PushRequest::new("registry.example:5000".parse()?);
//! let report = kharon::push_payload(payload, request, Arc::new(Silent)).await?;
//! assert!(report.incomplete.is_empty());
//! # Ok(())
//! # }
//! ```
//!
//! # The house
//!
//! Dependencies point down only; each foreign crate has one home.
//!
//! ```text
//! cli                 the command line, for the command and the Python package (clap)
//! terminal            everything drawn or asked (indicatif, dialoguer)
//! make · push · save  the verbs: carry a plan out · images as files that engines load (tar)
//! extract             an image as a tree of files
//! inventory           walk a registry and list what it holds
//! convert             images of schema 1 made into schema 2 by reading their layers
//! store               whole blobs, from the nearest place that has them
//! inspect · verify · savings   look at a payload, read all of it, say what deltas save
//! prove · restore · baselines   blobs rebuilt from deltas: to compare them, at all, and what from
//! expand · scanned    all that payloads bring as plain files (tar) · what of it was looked at
//! web                 a page that hands images out (form_urlencoded)
//! serve               a registry over payloads or an OCI layout folder
//! shelf               payloads as a store, read in place; blobs rebuilt when asked for
//! listen              an address, TLS and logins for those who serve (hyper, hyper-util, tokio-rustls,
//!                     tokio-io-timeout, bcrypt)
//! payload             the written format, docker-charon's beside it (zip)
//! receipt             what the far side holds, as a file
//! plan · names · rebuild   pure: what travels, what it is called, indexes of what travels
//! registry · layout   one registry over HTTP (reqwest) · an OCI image layout as a store
//! fetch               blobs from several connections to one writer, in order
//! layer               a blob as recipe and delta: joins the two below
//! gzip · delta        exact gzip streams · plain bytes against old plain bytes (zstd)
//! minisign            keys and signatures (aws-lc-rs, blake2, scrypt)
//! lists               images that files name (serde-saphyr)
//! config              what users and machines say about registries (toml)
//! changeset           a layer's tar with all that its entries say (tar's headers)
//! confined            a folder that nothing leaves (rustix)
//! disk                room where files go (fs4)
//! schema1             pure: Docker's old manifests made into those of schema 2
//! unpack · verified · window · replace    plain bytes of blobs (flate2) · checked while they pass · files at any
//!                     offset · files that are there whole or not at all
//! manifest · reference · digest · platform · progress · units · failure · stop      values
//! ```

mod ahead;
pub mod baselines;
mod changeset;
#[doc(hidden)]
pub mod cli;
pub mod config;
mod confined;
mod convert;
pub mod delta;
pub mod digest;
mod disk;
pub mod expand;
pub mod extract;
pub mod failure;
mod fetch;
pub mod gzip;
pub mod inspect;
pub mod inventory;
pub mod layer;
pub mod layout;
pub mod listen;
pub mod lists;
pub mod make;
pub mod manifest;
pub mod minisign;
pub mod names;
pub mod payload;
pub mod plan;
pub mod platform;
mod printable;
pub mod progress;
pub mod prove;
pub mod push;
mod rebuild;
pub mod receipt;
pub mod reference;
pub mod registry;
pub mod replace;
pub mod restore;
pub mod save;
pub mod savings;
pub mod scanned;
pub mod schema1;
pub mod serve;
pub mod shelf;
pub mod stop;
mod store;
pub mod terminal;
pub mod units;
pub mod unpack;
pub mod verified;
pub mod verify;
mod watched;
pub mod web;
mod window;

// The command line names the library as everybody else does.
extern crate self as kharon;

pub use expand::expand;
pub use extract::extract;
pub use inventory::inventory;
pub use make::make_payload;
pub use push::push_payload;
pub use save::save;

#[doc = include_str!("../README.md")]
#[cfg(doctest)]
pub struct Readme;
