//! The files that waypoints are made of: the objects, as the chart has them, and the certificates by which waypoints know
//! the controller. Both may become other ones while it runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use crate::plan::waypoints::{Settings, Template};

/// How often they are looked at.
const EVERY: Duration = Duration::from_secs(10);

/// What flags say about waypoints.
#[derive(Clone, Debug)]
pub struct WaypointSettings {
    /// A JSON list of the objects of a namespace's waypoints.
    pub template: PathBuf,
    /// Certificates of the controller's authorities, PEM.
    pub ca: PathBuf,
    /// How long ports and companion of a Service stay after it was turned back.
    pub grace: Duration,
    /// How long waypoints stay that nothing needs.
    pub idle: Duration,
    /// Whether they are taken away everywhere.
    pub drain: bool,
}

impl WaypointSettings {
    /// What planning goes by.
    ///
    /// # Errors
    /// The file that can't be used, and why.
    pub(super) fn read(&self) -> Result<Settings, String> {
        let text =
            |path: &Path| fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()));
        let template = Template::read(&text(&self.template)?, &text(&self.ca)?)
            .map_err(|error| format!("{}: {error}", self.template.display()))?;
        Ok(Settings { template: Arc::new(template), grace: self.grace, idle: self.idle, drain: self.drain })
    }
}

/// Looks at the files now and then.
#[derive(Debug)]
pub(super) struct Watched {
    settings: WaypointSettings,
    looked: Instant,
    told: Option<String>,
}

impl Watched {
    /// They were just read.
    pub(super) fn new(settings: WaypointSettings) -> Self {
        Self { settings, looked: Instant::now(), told: None }
    }

    /// Reads them anew where it is time; says whether they are other ones. What can't be used leaves what was.
    pub(super) fn look(&mut self, known: &mut Option<Settings>) -> bool {
        if self.looked.elapsed() < EVERY {
            return false;
        }
        self.looked = Instant::now();
        match self.settings.read() {
            Ok(fresh) => {
                self.told = None;
                let is_new = known.as_ref().is_none_or(|known| known.template != fresh.template);
                if is_new {
                    info!("the template of waypoints, or what they know the controller by, is another one");
                    *known = Some(fresh);
                }
                is_new
            }
            Err(error) => {
                if self.told.as_ref() != Some(&error) {
                    warn!("waypoints go on as they are: {error}");
                }
                self.told = Some(error);
                false
            }
        }
    }
}
