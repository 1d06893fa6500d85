//! What changes the table, told to its real owner and written into the book of the model.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

use serde_json::{Value, json};
use sidetrack_config::Key;
use sidetrack_proxy::source::keeper::Refused;
use sidetrack_proxy::source::stream::mirror::{Change, Changes};

use crate::model::{Preview, Set};
use crate::world::{CONNECT, RESPONSE, WHOLE, World};

impl World {
    /// PUT of a preview.
    pub(crate) fn put(&mut self, key: &str, preview: Preview) {
        let text = self.preview_text(&preview);
        self.note(&format!("PUT {key} {text}"));
        self.keeper.put(parsed(key), &text, self.clock.wall()).unwrap();
        self.book.put(key, preview, self.clock.now());
        self.in_force();
    }

    /// DELETE of a preview.
    pub(crate) fn delete(&mut self, key: &str) {
        self.note(&format!("DELETE {key}"));
        let deleted = self.keeper.delete(parsed(key), self.clock.wall());
        if self.book.delete(key) {
            deleted.unwrap();
            self.in_force();
        } else {
            assert!(matches!(deleted, Err(Refused::Unknown(_))), "{deleted:?}");
        }
    }

    /// A file of the folder is written; `None`: with what is no preview.
    pub(crate) fn write(&mut self, key: &str, preview: Option<Preview>) {
        let text =
            preview.as_ref().map_or_else(|| "{forks: [".to_owned(), |preview| self.preview_text(preview));
        self.note(&format!("file {key} {text}"));
        std::fs::write(self.file(key), text).unwrap();
        self.keeper.reread_previews(&[parsed(key)], self.clock.wall());
        match preview {
            Some(preview) => self.book.write(key, preview, self.clock.now()),
            None => self.book.break_file(key),
        }
        self.in_force();
    }

    /// A file of the folder goes.
    pub(crate) fn unlink(&mut self, key: &str) {
        self.note(&format!("file {key} goes"));
        std::fs::remove_file(self.file(key)).unwrap();
        self.keeper.reread_previews(&[], self.clock.wall());
        self.book.delete(key);
        self.in_force();
    }

    fn file(&self, key: &str) -> PathBuf {
        self.folder.path().join("previews.d").join(format!("{key}.yaml"))
    }

    /// The main file says something else.
    pub(crate) fn reload(
        &mut self,
        services: Vec<Option<Set>>,
        main: BTreeMap<String, Preview>,
        rejects_unknown: bool,
    ) {
        let mut text = self.settings();
        let word = if rejects_unknown { "reject" } else { "baseline" };
        let _ = writeln!(text, "unknownPreview: {word}\nservices:");
        for (service, set) in services.iter().enumerate() {
            let baseline = set.as_ref().map(|set| format!("baseline: {}, ", self.addresses(set)));
            let baseline = baseline.unwrap_or_default();
            let (connect, response) = (CONNECT.as_millis(), RESPONSE.as_millis());
            let timeouts =
                format!("timeouts: {{connect: {connect}ms, response: {response}ms, idle: {response}ms}}");
            let _ = writeln!(
                text,
                "  s{service}: {{{baseline}protocol: {}, {timeouts}}}",
                self.protocol(service)
            );
        }
        text += "routes:\n";
        for service in 0..services.len() {
            let _ = writeln!(text, "  - {{host: s{service}.preview.localhost, service: s{service}}}");
        }
        text += "previews:\n";
        for (key, preview) in &main {
            let _ = writeln!(text, "  {key}: {}", self.preview_text(preview));
        }
        self.note(&format!("reload {}", text.split_once("#\n").unwrap().1));
        std::fs::write(self.main_path(), text).unwrap();
        assert!(self.keeper.reload(true, self.clock.wall()), "{:?}", self.keeper.status());
        let table = &self.book.table;
        let is_same =
            (&table.services, table.rejects_unknown, &self.book.main) == (&services, rejects_unknown, &main);
        if is_same && let Some(last) = self.tables.last() {
            // Nothing new is no change of the table.
            assert_eq!(self.keeper.generation(), last.generation);
            return;
        }
        self.book.reload(services, main, rejects_unknown, self.clock.now());
        self.in_force();
    }

    fn protocol(&self, service: usize) -> &'static str {
        if self.is_http2[service] { "h2c" } else { "http1" }
    }

    fn addresses(&self, set: &[usize]) -> Value {
        set.iter().map(|upstream| self.address(*upstream).to_string()).collect()
    }

    fn preview_text(&self, preview: &Preview) -> String {
        let forks = preview.forks.iter().map(|(service, set)| (format!("s{service}"), self.addresses(set)));
        let forks: serde_json::Map<String, Value> = forks.collect();
        let mut value =
            json!({"forks": forks, "parents": preview.parents, "onForkDown": preview.on_down.word()});
        if let Some(ttl) = preview.ttl {
            value["ttl"] = json!(format!("{}s", ttl.as_secs()));
        }
        value.to_string()
    }

    /// What a controller says first: services and routes.
    pub(crate) fn apply_first(&mut self) {
        let mut changes = Changes::new();
        for service in 0..self.book.table.services.len() {
            let name = format!("s{service}");
            changes.insert(format!("service/{name}").into(), self.service_item(service));
            let route = json!({"route": {
                "name": name, "host": format!("{name}.preview.localhost"), "path": {"prefix": "/"}, "rank": name,
                "timeouts": {"request": WHOLE.as_millis(), "backendRequest": RESPONSE.as_millis()},
                "action": {"forward": [{"service": name, "weight": 1}]},
            }});
            changes.insert(format!("route/{name}").into(), item(route));
        }
        self.apply(&changes);
    }

    fn service_item(&self, service: usize) -> Change {
        let baseline = self.book.table.services[service].as_ref().map(|set| self.addresses(set));
        let mut value = json!({"name": format!("s{service}"), "protocol": self.protocol(service)});
        if let Some(baseline) = baseline {
            value["baseline"] = baseline;
        }
        item(json!({"service": value}))
    }

    fn apply(&mut self, changes: &Changes) {
        self.version += 1;
        self.note(&format!("version {}: {:?}", self.version, changes.keys()));
        self.keeper.apply(self.version, changes).unwrap();
        self.in_force();
    }

    /// A controller says where a baseline is now.
    pub(crate) fn set_baseline(&mut self, service: usize, set: Set) {
        self.note(&format!("s{service} is at {set:?}"));
        self.book.table.services[service] = Some(set);
        let change = self.service_item(service);
        self.apply(&Changes::from([(format!("service/s{service}").into(), change)]));
    }

    /// A controller sets a preview.
    pub(crate) fn set(&mut self, key: &str, preview: Preview) {
        let text = self.preview_text(&preview);
        self.note(&format!("set {key} {text}"));
        let mut value: Value = serde_json::from_str(&text).unwrap();
        let about = value.as_object_mut().unwrap();
        about.remove("ttl");
        about.insert("key".into(), json!(key));
        if let Some(ttl) = preview.ttl {
            about.insert("expires".into(), json!(self.clock.wall() + ttl));
        }
        self.book.set(key, preview, self.clock.now());
        // It no longer says that the key is gone.
        let gone = (format!("gone/{key}").into(), Change::Removed);
        self.apply(&Changes::from([
            (format!("preview/{key}").into(), item(json!({"preview": value}))),
            gone,
        ]));
    }

    /// A controller takes a preview away.
    pub(crate) fn take(&mut self, key: &str) {
        let is_remembered = self.random.chance(70);
        let mut changes = Changes::from([(format!("preview/{key}").into(), Change::Removed)]);
        if is_remembered {
            let gone = json!({"gone": {"key": key, "at": self.clock.wall()}});
            changes.insert(format!("gone/{key}").into(), item(gone));
        }
        self.note(&format!("take {key} away, remembered: {is_remembered}"));
        self.book.take(key, is_remembered);
        self.apply(&changes);
    }

    /// A second has passed for the owner of the table.
    pub(crate) fn tick(&mut self) {
        let ended = self.book.tick(self.clock.now());
        self.keeper.tick(self.clock.wall());
        if !ended.is_empty() {
            self.note(&format!("ended: {ended:?}"));
            // A controller's version stays what it was, though a preview of it has ended.
            if self.is_followed {
                self.keep(self.keeper.generation());
            } else {
                self.in_force();
            }
        }
    }
}

fn parsed(key: &str) -> Key {
    Key::bare(key).unwrap()
}

fn item(value: Value) -> Change {
    Change::Set(serde_json::from_value(value).unwrap())
}
