//! The rooms, told as stories (see [`world`] for how one is written), held against a model, and fed with noise.

mod access;
mod asyncapi;
mod model;
mod noise;
mod resume;
mod roles;
pub(crate) mod schema;
mod specification;
mod stories;
mod world;
