//! The edge as its users meet it: files on disk, sockets of the kernel.

mod access;
mod admin;
mod clients;
mod distribution;
mod documents;
mod editing;
mod grants;
mod health;
mod hostile;
mod notify;
mod openapi;
mod properties;
mod skywalking;
mod tokens;
