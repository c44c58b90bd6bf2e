//! Writing what is to exist, putting back what somebody changed, and removing what is left over.

use std::collections::BTreeMap;

use apiserver::{Client, Gr};
use kubeapi::{Status, object};
use operator::Owned;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::Informers;

/// What a StatefulSet was made from, so that it is written again only when that changes (the real operator's annotation).
const INPUT_HASH: &str = "prometheus-operator-input-hash";
/// Labels and annotations that begin with this are the operator's alone.
const OWN: &str = "operator.prometheus.io/";
/// Annotations of pod templates that kubectl writes, such as those of a restart.
const KUBECTL: &str = "kubectl.kubernetes.io/";

/// Keeps owned objects as they are to be.
pub(super) struct Keeper {
    client: Client,
    /// The generation of each StatefulSet as it was written last: any other is somebody else's change.
    generations: BTreeMap<String, Value>,
}

/// How keeping went.
pub(super) struct Kept {
    /// Whether everything is as it is to be.
    pub(super) done: bool,
    /// What the API refused.
    pub(super) failed: Option<String>,
}

/// A decimal number that stands for a text.
fn hash(text: &str) -> String {
    let digest = Sha256::digest(text);
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&digest[..8]);
    u64::from_be_bytes(bytes).to_string()
}

/// Whether everything wanted is there; what is there beyond that does not count, but in lists.
fn covers(present: &Value, wanted: &Value) -> bool {
    match (present, wanted) {
        (Value::Object(present), Value::Object(wanted)) => {
            wanted.iter().all(|(key, value)| covers(present.get(key).unwrap_or(&Value::Null), value))
        }
        (Value::Array(present), Value::Array(wanted)) => {
            present.len() == wanted.len() && present.iter().zip(wanted).all(|(present, wanted)| covers(present, wanted))
        }
        (Value::Null, Value::Object(wanted)) => wanted.is_empty(),
        (present, wanted) => present == wanted,
    }
}

/// Lays wanted labels and annotations over those that are there; others stay, unless they are of the operator's own.
fn overlay(present: &Value, wanted: &Value) -> Value {
    let mut metadata = present["metadata"].clone();
    for kind in ["labels", "annotations"] {
        // Looking with an index would put a null where there is nothing.
        if let Some(entries) = metadata.get_mut(kind).and_then(Value::as_object_mut) {
            entries.retain(|key, _| !key.starts_with(OWN));
        }
        for (key, value) in wanted["metadata"][kind].as_object().into_iter().flatten() {
            metadata[kind][key] = value.clone();
        }
    }
    let mut owners = metadata["ownerReferences"].as_array().cloned().unwrap_or_default();
    for owner in wanted["metadata"]["ownerReferences"].as_array().into_iter().flatten() {
        match owners.iter_mut().find(|known| known["uid"] == owner["uid"]) {
            Some(known) => *known = owner.clone(),
            None => owners.push(owner.clone()),
        }
    }
    metadata["ownerReferences"] = owners.into();
    metadata
}

/// A Secret, ConfigMap or Service as it is to be, if it is not.
fn restored(present: &Value, wanted: &Value) -> Option<Value> {
    let metadata = overlay(present, wanted);
    let mut restored = present.clone();
    restored["metadata"] = metadata;
    for field in ["data", "spec"] {
        match (&present[field], &wanted[field]) {
            (_, Value::Null) => {}
            // The content is the operator's from end to end; of a Service only what it says.
            (there, data) if field == "data" => {
                let empty = |value: &Value| value.as_object().is_none_or(serde_json::Map::is_empty);
                if there != data && !(empty(there) && empty(data)) {
                    restored[field] = data.clone();
                }
            }
            (there, spec) if !covers(there, spec) => {
                for (key, value) in spec.as_object().into_iter().flatten() {
                    restored[field][key] = value.clone();
                }
            }
            _ => {}
        }
    }
    (restored != *present).then_some(restored)
}

/// A StatefulSet as it is to be: the wanted one with the foreign notes of the present one.
fn renewed(present: &Value, wanted: &Value) -> Value {
    let mut renewed = wanted.clone();
    renewed["metadata"] = overlay(present, wanted);
    let notes = present["spec"]["template"]["metadata"]["annotations"].as_object().into_iter().flatten();
    for (key, value) in notes.filter(|(key, _)| key.starts_with(KUBECTL)) {
        let kept = &mut renewed["spec"]["template"]["metadata"]["annotations"][key];
        if kept.is_null() {
            *kept = value.clone();
        }
    }
    renewed
}

impl Keeper {
    pub(super) fn new(client: Client) -> Self {
        Self { client, generations: BTreeMap::new() }
    }

    /// Whether there is a storage class of this name.
    pub(super) fn has_storage_class(&self, name: &str) -> bool {
        self.client.find(Gr::of("storage.k8s.io", "storageclasses"), "", name).ok().flatten().is_some()
    }

    /// Keeps all objects of an owner, in their order.
    pub(super) fn keep(&mut self, owner: &Value, owned: &Owned, informers: &Informers) -> Kept {
        let mut kept = Kept { done: true, failed: None };
        for wanted in &owned.objects {
            let Some((gr, informer)) = informers.of(object::kind(wanted)) else { continue };
            let key = object::key(wanted);
            let present = informer.get(&key).map(|present| &**present);
            if present.is_some_and(object::is_deleting) {
                continue;
            }
            let result = match object::kind(wanted) {
                "StatefulSet" => self.keep_set(gr, &key, present, wanted),
                _ => match present {
                    None => self.client.put(gr, wanted).map(drop),
                    Some(present) => {
                        restored(present, wanted).map_or(Ok(()), |restored| self.client.update(gr, &restored).map(drop))
                    }
                },
            };
            match result {
                Ok(()) => {}
                // Somebody else was faster; the next look sees what he did.
                Err(status) if status.code == 409 => kept.done = false,
                Err(status) => {
                    let message = format!("updating {} {key} failed: {status}", object::kind(wanted));
                    tracing::warn!(%message, "cannot keep an object");
                    kept = Kept { done: false, failed: Some(message) };
                }
            }
        }
        for kind in ["ConfigMap", "Secret", "StatefulSet"] {
            let Some((gr, informer)) = informers.of(kind) else { continue };
            for present in informer.in_namespace(object::namespace(owner)) {
                if !object::is_deleting(present)
                    && owned.is_superfluous(owner, present)
                    && let Err(error) = self.client.delete(gr, object::namespace(present), object::name(present), None)
                {
                    tracing::debug!(%error, object = object::key(present), "cannot delete what is left over");
                }
            }
        }
        kept
    }

    fn keep_set(&mut self, gr: Gr, key: &str, present: Option<&Value>, wanted: &Value) -> Result<(), Status> {
        let hash = hash(&wanted.to_string());
        if let Some(present) = present
            && object::annotation(present, INPUT_HASH) == Some(&hash)
            && self.generations.get(key) == Some(&present["metadata"]["generation"])
        {
            return Ok(());
        }
        let mut marked = match present {
            None => wanted.clone(),
            Some(present) => renewed(present, wanted),
        };
        marked["metadata"]["annotations"][INPUT_HASH] = hash.as_str().into();
        let written = match present {
            None => self.client.create(gr, &marked),
            Some(_) => self.client.update(gr, &marked),
        };
        match written {
            Ok(written) => {
                self.generations.insert(key.to_owned(), written["metadata"]["generation"].clone());
                Ok(())
            }
            // It cannot be changed into what is wanted: it goes, and comes back as that.
            Err(status) if status.code == 422 && present.is_some() => {
                tracing::info!(%status, key, "a StatefulSet is made anew");
                self.client.delete(gr, object::namespace(wanted), object::name(wanted), None)
            }
            Err(status) => Err(status),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_somebody_changed_is_put_back() {
        let wanted = json!({"metadata": {"labels": {"a": "b"}, "ownerReferences": [{"uid": "1"}]}, "data": {"k": "v"}});
        for (present, data, labels) in [
            (
                json!({"metadata": {"labels": {"a": "b", "mine": "x"}, "ownerReferences": [{"uid": "1"}]}, "data": {"k": "v"}}),
                None,
                None,
            ),
            (
                json!({"metadata": {"labels": {"a": "b"}, "ownerReferences": [{"uid": "1"}]}, "data": {"k": "other", "l": "m"}}),
                Some(json!({"k": "v"})),
                Some(json!({"a": "b"})),
            ),
            (
                json!({"metadata": {"labels": {"a": "c", "mine": "x"}, "ownerReferences": [{"uid": "1"}]}, "data": {"k": "v"}}),
                Some(json!({"k": "v"})),
                Some(json!({"a": "b", "mine": "x"})),
            ),
        ] {
            let found = restored(&present, &wanted);
            assert_eq!(found.as_ref().map(|found| found["data"].clone()), data);
            assert_eq!(found.map(|found| found["metadata"]["labels"].clone()), labels);
        }
    }

    #[test]
    fn owners_of_a_service_are_added_to_the_others() {
        let service = |uid: &str| json!({"metadata": {"ownerReferences": [{"uid": uid}]}, "spec": {"clusterIP": "None"}});
        let found = restored(&service("1"), &service("2")).unwrap();
        assert_eq!(found["metadata"]["ownerReferences"], json!([{"uid": "1"}, {"uid": "2"}]));
    }

    #[test]
    fn foreign_notes_of_a_set_stay() {
        let present = json!({
            "metadata": {"labels": {"operator.prometheus.io/shard": "7", "mine": "x"}, "resourceVersion": "5"},
            "spec": {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "now", "other": "gone"}}}},
        });
        let wanted = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"template": {"metadata": {"annotations": {"c": "d"}}}}});
        let found = renewed(&present, &wanted);
        assert_eq!(found["metadata"]["labels"], json!({"mine": "x", "a": "b"}));
        let annotations = &found["spec"]["template"]["metadata"]["annotations"];
        assert_eq!(*annotations, json!({"c": "d", "kubectl.kubernetes.io/restartedAt": "now"}));
    }

    #[test]
    fn lists_are_compared_item_by_item() {
        for (present, wanted, expected) in [
            (json!({"a": 1, "b": 2}), json!({"a": 1}), true),
            (json!({"a": [{"x": 1, "y": 2}]}), json!({"a": [{"x": 1}]}), true),
            (json!({"a": [1, 2]}), json!({"a": [1]}), false),
            (json!({}), json!({"a": {}}), true),
            (json!({"a": 2}), json!({"a": 1}), false),
        ] {
            assert_eq!(covers(&present, &wanted), expected, "{present} {wanted}");
        }
    }
}
