//! Configuration text: it is a configuration or a list of problems with places, and never a panic. What is accepted
//! makes a table.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use sidetrack_config::Key;
use sidetrack_fuzz::config;
use sidetrack_proxy::route::build::Builder;
use sidetrack_proxy::route::table::Table;

fuzz_target!(|text: &str| {
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
                let built = builder.preview(*key, preview, &checked.config, None, None);
                assert!(table.insert(built).is_ok(), "the check let two previews with one name through");
            }
        }
        Err(problems) => assert!(!problems.to_string().is_empty()),
    }
    if let Ok(key) = Key::bare("9") {
        let _ = sidetrack_config::parse_preview(Path::new("9.yaml"), &key, text, config());
    }
});
