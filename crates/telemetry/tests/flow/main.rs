//! Whole relays and collectors over real sockets: who gets in, who may say what, and that nothing is lost.

mod aside;
mod asking;
mod backend;
mod backends;
mod bounded_passing;
mod breaking;
mod carrying;
mod claims;
mod crashing;
mod cutting;
mod every_method;
mod every_path;
mod flooding;
mod frames;
mod full_disk;
mod health;
mod hostile;
mod large;
mod mirror;
mod moving;
mod otlp;
mod passing;
mod posting;
mod support;
mod waiting;
