//! Configuration text: it is a configuration or a list of problems with places, and never a panic. What is accepted
//! makes a table.

use std::path::Path;

use sidetrack_config::Key;
use sidetrack_proxy::route::build::{About, Builder};
use sidetrack_proxy::route::table::Table;

use crate::estate::config;

/// The text of a main file, and of a preview's.
pub(crate) fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    // Texts that name files would test the file system.
    if text.contains("ile") {
        return;
    }
    match sidetrack_config::parse(Path::new("fuzz.yaml"), text) {
        Ok(checked) => {
            let mut builder = Builder::new(1);
            let Ok(estate) = builder.estate(&checked.config) else { return };
            let mut table = Table::new(1, estate);
            for (key, preview) in &checked.config.previews {
                let built = builder.preview(*key, preview, &checked.config, About::default());
                assert!(table.insert(built).is_ok(), "the check let two previews with one name through");
            }
        }
        Err(problems) => assert!(!problems.to_string().is_empty()),
    }
    let key = Key::bare("9").expect("a key");
    let _ = sidetrack_config::parse_preview(Path::new("9.yaml"), &key, text, config());
}
