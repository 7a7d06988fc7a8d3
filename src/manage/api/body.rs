//! A JSON object, read strictly: each field once, of the right type, and no other field.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

use super::failure::Failure;

/// The fields of an object that nobody has asked for yet.
#[derive(Default)]
pub(super) struct Fields(Vec<(String, Value)>);

impl Fields {
    /// Reads a whole body. An empty one is an object without fields.
    pub(super) fn parse(body: &[u8]) -> Result<Self, Failure> {
        if body.is_empty() {
            return Ok(Self::default());
        }
        let fields: Self = serde_json::from_slice(body)
            .map_err(|_| Failure::request("The body must be one JSON object."))?;
        for (position, (name, _)) in fields.0.iter().enumerate() {
            if fields.0[..position].iter().any(|(earlier, _)| earlier == name) {
                return Err(Failure::param(name, "The field is there more than once."));
            }
        }
        Ok(fields)
    }

    /// Takes a field, if it is there and not `null`.
    pub(super) fn take<T>(
        &mut self,
        name: &'static str,
        wanted: &str,
        read: impl FnOnce(Value) -> Option<T>,
    ) -> Result<Option<T>, Failure> {
        let place = self.0.iter().position(|(field, _)| field == name);
        match place.map(|place| self.0.swap_remove(place).1) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => {
                read(value).map(Some).ok_or_else(|| Failure::param(name, wanted.to_owned()))
            }
        }
    }

    /// Takes a field that has to be there.
    pub(super) fn require<T>(
        &mut self,
        name: &'static str,
        wanted: &str,
        read: impl FnOnce(Value) -> Option<T>,
    ) -> Result<T, Failure> {
        self.take(name, wanted, read)?
            .ok_or_else(|| Failure::param(name, format!("The field is missing. {wanted}")))
    }

    /// Refuses what nobody asked for: a field that is passed over in silence is a wish that is lost.
    pub(super) fn end(self) -> Result<(), Failure> {
        match self.0.into_iter().next() {
            None => Ok(()),
            Some((name, _)) => Err(Failure::param(&name, "There is no such field.")),
        }
    }
}

/// A text of the JSON kind.
pub(super) fn text(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        _ => None,
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Fields, M::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(Object)
    }
}
