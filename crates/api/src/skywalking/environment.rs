//! The environment variables of an agent, read into types.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;

use handfast_telemetry::upstream::Backend;
use thiserror::Error;

use crate::secret::Secret;

/// What the variables of the Java agent say about how to report.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AgentEnvironment {
    /// `SW_AGENT_FORCE_TLS`: TLS by the system's trust where no CA is there.
    pub force_tls: bool,
    /// `SW_AGENT_SSL_TRUSTED_CA_PATH`, relative to the agent's folder.
    pub trusted_ca: Option<PathBuf>,
    /// `SW_AGENT_SSL_KEY_PATH`, likewise.
    pub key: Option<PathBuf>,
    /// `SW_AGENT_SSL_CERT_CHAIN_PATH`, likewise.
    pub chain: Option<PathBuf>,
    /// `SW_AGENT_AUTHENTICATION`: the token shown on every call.
    pub authentication: Option<Secret>,
    /// `SW_AGENT_COLLECTOR_BACKEND_SERVICES`: where to report to.
    pub backends: Vec<Backend>,
    /// `SSL_CERT_FILE`: the system's trust bundle, where it is not in the usual place.
    pub system_bundle: Option<PathBuf>,
}

impl AgentEnvironment {
    /// Reads the variables. One that is set to nothing counts as not set, as SkyWalking does it.
    ///
    /// # Errors
    /// A value that cannot be meant, by its variable.
    pub fn read(variables: &BTreeMap<String, String>) -> Result<Self, EnvironmentFault> {
        let variables = Variables(variables);
        let path = |name| variables.text(name).map(PathBuf::from);
        let mut backends = Vec::new();
        if let Some(list) = variables.text(BACKENDS) {
            for one in list.split(',').map(str::trim).filter(|one| !one.is_empty()) {
                backends.push(parsed(BACKENDS, one)?);
            }
        }
        Ok(Self {
            force_tls: variables.boolean("SW_AGENT_FORCE_TLS")?.unwrap_or(false),
            trusted_ca: path("SW_AGENT_SSL_TRUSTED_CA_PATH"),
            key: path("SW_AGENT_SSL_KEY_PATH"),
            chain: path("SW_AGENT_SSL_CERT_CHAIN_PATH"),
            authentication: variables.text("SW_AGENT_AUTHENTICATION").map(Secret::new),
            backends,
            system_bundle: path("SSL_CERT_FILE"),
        })
    }
}

/// A map of variables, with the ways in which SkyWalking reads them.
#[derive(Clone, Copy)]
struct Variables<'a>(&'a BTreeMap<String, String>);

impl<'a> Variables<'a> {
    fn text(self, name: &str) -> Option<&'a str> {
        self.0.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    fn boolean(self, name: &'static str) -> Result<Option<bool>, EnvironmentFault> {
        match self.text(name) {
            None => Ok(None),
            Some(text) if text.eq_ignore_ascii_case("true") => Ok(Some(true)),
            Some(text) if text.eq_ignore_ascii_case("false") => Ok(Some(false)),
            Some(text) => Err(EnvironmentFault::new(name, text, "it is `true` or `false`")),
        }
    }
}

fn parsed<T>(name: &'static str, text: &str) -> Result<T, EnvironmentFault>
where
    T: FromStr<Err: std::fmt::Display>,
{
    text.parse().map_err(|error: T::Err| EnvironmentFault::new(name, text, &error.to_string()))
}

/// A variable that says what cannot be meant.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("the variable {variable} is {value:?}: {why}")]
pub struct EnvironmentFault {
    /// Its name.
    pub variable: &'static str,
    /// What it says, shortened.
    pub value: String,
    /// What is wrong with that.
    pub why: String,
}

impl EnvironmentFault {
    fn new(variable: &'static str, value: &str, why: &str) -> Self {
        let value = value.chars().filter(|character| !character.is_control()).take(120).collect();
        Self { variable, value, why: why.to_owned() }
    }
}

const BACKENDS: &str = "SW_AGENT_COLLECTOR_BACKEND_SERVICES";

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn variables_are_read_as_the_agent_reads_them() {
        assert_eq!(AgentEnvironment::read(&variables(&[])), Ok(AgentEnvironment::default()));
        let read = AgentEnvironment::read(&variables(&[
            ("SW_AGENT_FORCE_TLS", "TRUE"),
            ("SW_AGENT_SSL_TRUSTED_CA_PATH", "/ca/ca.crt"),
            ("SW_AGENT_SSL_KEY_PATH", " "),
            ("SW_AGENT_AUTHENTICATION", "secret word"),
            (BACKENDS, "a:11800, [::1]:1,,b.example:2"),
        ]))
        .expect("good ones");
        assert!(read.force_tls && read.key.is_none());
        let backends: Vec<String> = read.backends.iter().map(ToString::to_string).collect();
        assert_eq!(backends, ["a:11800", "[::1]:1", "b.example:2"]);
        assert!(!format!("{read:?}").contains("secret word"));
    }

    #[test]
    fn a_value_that_cannot_be_meant_is_named_by_its_variable() {
        for (name, value) in [("SW_AGENT_FORCE_TLS", "yes"), (BACKENDS, "a"), (BACKENDS, "a:1,b:0")]
        {
            let fault = AgentEnvironment::read(&variables(&[(name, value)])).expect_err(value);
            assert_eq!(fault.variable, name);
            assert!(fault.to_string().contains(name), "{fault}");
        }
    }
}
