//! Everything that is read from a short text: what is accepted comes back as it was shown.
#![no_main]

use std::fmt::{Debug, Display};
use std::str::FromStr;

use handfast_pki::{
    DnsName, Host, IpNet, KeyAlgorithm, Name, Profile, Serial, SpiffeId, TrustDomain,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    stable::<DnsName>(text);
    stable::<Host>(text);
    stable::<IpNet>(text);
    stable::<KeyAlgorithm>(text);
    stable::<Name>(text);
    stable::<Profile>(text);
    stable::<Serial>(text);
    stable::<SpiffeId>(text);
    stable::<TrustDomain>(text);
});

fn stable<T: FromStr + Display + PartialEq + Debug>(text: &str)
where
    T::Err: Debug,
{
    if let Ok(read) = text.parse::<T>() {
        assert_eq!(read.to_string().parse::<T>().expect("reads what it shows"), read);
    }
}
