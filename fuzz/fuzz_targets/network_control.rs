//! Control messages of a link: what is decoded is encoded to the same meaning.
#![no_main]

use handfast_proto::link::v1::Control;
use libfuzzer_sys::fuzz_target;
use prost::Message;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(message) = Control::decode(bytes) {
        assert_eq!(Control::decode(message.encode_to_vec().as_slice()).as_ref(), Ok(&message));
    }
});
