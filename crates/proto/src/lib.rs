//! The wire: message definitions and their committed Rust. No logic.
//!
//! [`link`] is what nodes say to each other; [`skywalking`] and [`otlp`] are what telemetry agents say.
//!
//! The definitions are the `.proto` files under `proto/`, written afresh; the Rust beside them is
//! what `prost` makes of them, committed so that a build needs neither `protoc` nor a generator. The
//! telemetry's is made anew by `cargo run --manifest-path crates/proto/generate/Cargo.toml`.
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

/// SkyWalking's data-collect protocol: every message that says of whom it speaks. Fields keep the
/// protocol's names, in Rust's spelling.
#[expect(missing_docs, reason = "the names of fields and values are the protocol's own")]
pub mod skywalking {
    /// What agents and receivers say since version 8.
    pub mod v3 {
        mod browser;
        mod clr;
        mod common;
        mod ebpf;
        mod event;
        mod jvm;
        mod logging;
        mod management;
        mod mesh;
        mod meter;
        mod profile;
        mod tracing;

        pub use browser::*;
        pub use clr::*;
        pub use common::*;
        pub use ebpf::*;
        pub use event::*;
        pub use jvm::*;
        pub use logging::*;
        pub use management::*;
        pub use mesh::*;
        pub use meter::*;
        pub use profile::*;
        pub use tracing::*;
    }

    /// What was added with version 10: profiles that are larger than a message.
    pub mod v10 {
        mod profiling;

        pub use profiling::*;
    }
}

/// OpenTelemetry's protocol, stable signals. Fields that a later version adds are passed over.
#[expect(missing_docs, reason = "the names of fields and values are the protocol's own")]
pub mod otlp {
    /// What other messages are made of.
    pub mod common {
        /// Version 1.
        pub mod v1;
    }
    /// Who reports.
    pub mod resource {
        /// Version 1.
        pub mod v1;
    }
    /// Spans.
    pub mod trace {
        /// Version 1.
        pub mod v1;
    }
    /// Metrics and their points.
    pub mod metrics {
        /// Version 1.
        pub mod v1;
    }
    /// Log records.
    pub mod logs {
        /// Version 1.
        pub mod v1;
    }
    /// What is exported, and how that is answered.
    pub mod collector {
        /// Batches of spans.
        pub mod trace {
            /// Version 1.
            pub mod v1;
        }
        /// Batches of metrics.
        pub mod metrics {
            /// Version 1.
            pub mod v1;
        }
        /// Batches of log records.
        pub mod logs {
            /// Version 1.
            pub mod v1;
        }
    }
}
