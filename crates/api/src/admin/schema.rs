//! Whether the types of the API have to say what they look like: in tests they do, so that the
//! OpenAPI document can be made of them, and in the program that users run they need not.

/// What goes into or comes out of a route. With the feature `schema`, everything that has a JSON
/// Schema; without it, everything.
#[cfg(not(feature = "schema"))]
pub trait Described {}

#[cfg(not(feature = "schema"))]
impl<T> Described for T {}

/// What goes into or comes out of a route: everything that has a JSON Schema. Derive it with
/// `#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]`.
#[cfg(feature = "schema")]
pub trait Described: schemars::JsonSchema {}

#[cfg(feature = "schema")]
impl<T: schemars::JsonSchema> Described for T {}

#[cfg(feature = "schema")]
pub use of::SchemaOf;

#[cfg(feature = "schema")]
mod of {
    use schemars::generate::{Contract, SchemaGenerator, SchemaSettings};
    use schemars::{JsonSchema, Schema};

    /// A type's schema, and those of the types it is made of.
    #[derive(Clone, Debug)]
    pub struct SchemaOf {
        /// The type's own.
        pub schema: Schema,
        /// What it refers to under `#/components/schemas`.
        pub definitions: serde_json::Map<String, serde_json::Value>,
    }

    impl SchemaOf {
        /// As it is written by the node.
        pub fn answer<T: JsonSchema>() -> Self {
            Self::made::<T>(Contract::Serialize)
        }

        /// As it is read by the node.
        pub fn request<T: JsonSchema>() -> Self {
            Self::made::<T>(Contract::Deserialize)
        }

        fn made<T: JsonSchema>(contract: Contract) -> Self {
            let settings = SchemaSettings::draft2020_12().with(|settings| {
                settings.contract = contract;
                settings.definitions_path = "/components/schemas".into();
                settings.meta_schema = None;
            });
            let mut generator = SchemaGenerator::new(settings);
            let schema = generator.subschema_for::<T>();
            Self { schema, definitions: generator.take_definitions(true) }
        }
    }
}
