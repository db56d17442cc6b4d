//! Loading of models, as the arguments set it.

use std::path::Path;

use tl_device::Device;
use tl_engine::{LoadOptions, Model, Planner};

use crate::arguments::{CacheType, ModelArguments};
use crate::output::Stop;
use crate::progress::Bar;
use crate::{files, models, program};

impl ModelArguments {
    /// A plan of the model's memory on a device.
    pub(crate) fn planner(&self, path: &Path, device: &Device) -> Result<Planner, Stop> {
        let path = models::find(path)?;
        let planner = Planner::open_with(path, device, self.options()?).map_err(Stop::failed)?;
        let planner = planner.with_activations(self.activations.into());
        Ok(planner.with_cache_dtype(self.cache.map(CacheType::dtype)))
    }

    /// Loads the model.
    pub(crate) fn load(&self, path: &Path, device: &Device) -> Result<Model, Stop> {
        let mut options = self.options()?;
        options.is_copied = self.no_mmap;
        let path = models::find(path)?;
        let total = if path.is_file() { path.metadata().map_or(0, |metadata| metadata.len()) } else { 0 };
        let reading = if self.no_mmap { Bar::of_reading(total) } else { None };
        let model = Model::load_with(path, device, options).map_err(Stop::failed)?;
        drop(reading);
        model.weights().checkpoint().files().iter().for_each(|file| files::note_input(file));
        let model = model.with_activations(self.activations.into());
        Ok(model.with_cache_dtype(self.cache.map(CacheType::dtype)))
    }

    fn options(&self) -> Result<LoadOptions, Stop> {
        load_options(self.arch.as_deref())
    }
}

/// Load options with this script as the architecture.
pub(crate) fn load_options(architecture: Option<&Path>) -> Result<LoadOptions, Stop> {
    let mut options = LoadOptions::default();
    options.architecture = architecture.map(program::architecture).transpose()?;
    Ok(options)
}
