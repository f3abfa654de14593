//! The wire between nodes: message definitions and their committed Rust. No logic.
//!
//! The definitions are the `.proto` files under `proto/`; the Rust beside them is what `prost`
//! makes of them, committed so that a build needs neither `protoc` nor a generator.
//!
//! ```
//! use handfast_proto::link::v1::{Advertisement, Control, Service, control::Body};
//! use prost::Message;
//!
//! let notice = Control {
//!     request_id: 0,
//!     body: Some(Body::Advertisement(Advertisement {
//!         sequence: 1,
//!         services: vec![Service { routing_key: "payments".into(), cost: 0 }],
//!     })),
//! };
//! assert_eq!(Control::decode(notice.encode_to_vec().as_slice()), Ok(notice));
//! ```

/// Messages of a link's control stream.
pub mod link {
    /// Version 1.
    pub mod v1;
}
