//! Looking at TLS from outside: connect to any server and report everything about it, fault or
//! not; and play a server or client with arbitrary material, to see that it is refused. For
//! diagnosis, demonstrations and tests; no traffic ever goes through here.

mod connect;
mod impostor;
mod judge;
mod material;

pub use self::connect::{Probe, Report, connect};
pub use self::impostor::{Impostor, Welcome};
pub use self::judge::Judgement;
pub use self::material::Material;
