//! Machine code of the kernels: embedded, or made by NVRTC.
//!
//! `build/cuda.rs` writes a table of the kernel sources with, where nvcc was there, a fatbin each, and one of
//! the kernels' names, each with its file. A file is loaded when the first of its kernels is asked for. Where its fatbin is missing or the
//! driver cannot load it (images of CUDA 13 want driver 580), NVRTC of the machine's own toolkit
//! compiles the embedded sources for the card: all of them side by side when the first is needed, since the others
//! will be, and kept on disk for the next time (`cache.rs`).

use super::cache::ImageCache;
use super::driver::{Context, Function, LoadError, Module};
use super::error::{Checked, CudaError, name_of};
use super::nvrtc::{Nvrtc, Output};
use cudarc::driver::DriverError;
use cudarc::driver::sys::CUresult;
use std::sync::Arc;

/// A file of kernels.
#[derive(Debug)]
pub struct KernelSource {
    /// Its name without the extension.
    pub name: &'static str,
    /// CUDA C++.
    pub text: &'static str,
    /// Code for [`architectures`], where the build had nvcc.
    pub fatbin: Option<&'static [u8]>,
}

/// A header that kernels include.
#[derive(Debug)]
pub struct KernelHeader {
    /// The name as included.
    pub name: &'static str,
    /// CUDA C++.
    pub text: &'static str,
}

mod embedded {
    use super::{KernelHeader, KernelSource};
    include!(concat!(env!("OUT_DIR"), "/kernels.rs"));
}

/// The architectures that code is embedded for: `sm_90` is machine code, `compute_80` PTX, which newer cards
/// translate. Empty where the build had no nvcc.
pub fn architectures() -> &'static [&'static str] {
    embedded::ARCHITECTURES
}

/// The release of CUDA whose nvcc has made that code, major and minor; `None` where there is none, or nvcc did not say.
pub fn release() -> Option<(u32, u32)> {
    embedded::RELEASE
}

/// All files of kernels, sorted by name.
pub fn kernel_sources() -> &'static [KernelSource] {
    embedded::SOURCES
}

/// All headers.
pub fn kernel_headers() -> &'static [KernelHeader] {
    embedded::HEADERS
}

/// All kernels, sorted by name, each with the number of its file among [`kernel_sources`].
pub fn kernel_table() -> &'static [(&'static str, usize)] {
    embedded::KERNELS
}

/// The modules of a context, loaded one by one.
pub(super) struct Images {
    compute_capability: (u32, u32),
    cuda_version: (u32, u32),
    modules: Vec<Option<Arc<Module>>>,
    /// What NVRTC has made of each file, where one had to be compiled.
    compiled: Option<Vec<Result<Vec<u8>, CudaError>>>,
}

impl Images {
    pub fn new(compute_capability: (u32, u32), cuda_version: (u32, u32)) -> Images {
        let modules = vec![None; kernel_sources().len()];
        Images { compute_capability, cuda_version, modules, compiled: None }
    }

    /// The kernel of a row of [`kernel_table`]. The context is bound.
    pub fn function(&mut self, context: &Arc<Context>, row: usize) -> Result<Function, CudaError> {
        let (name, file) = kernel_table()[row];
        Function::new(&self.module(context, file)?, name)
    }

    fn module(&mut self, context: &Arc<Context>, index: usize) -> Result<Arc<Module>, CudaError> {
        if let Some(module) = &self.modules[index] {
            return Ok(module.clone());
        }
        let source = &kernel_sources()[index];
        let module = match source.fatbin {
            None => self.compile(context, index, "this program was built without nvcc".to_owned())?,
            Some(fatbin) => match Module::load(context, fatbin) {
                Ok(module) => module,
                Err(LoadError::Image(failure)) if is_about_the_image(failure) => {
                    self.compile(context, index, format!("cuModuleLoadData: {}", name_of(failure)))?
                }
                Err(LoadError::Image(failure)) => return Err(failure).call("cuModuleLoadData"),
                Err(LoadError::Other(error)) => return Err(error),
            },
        };
        self.modules[index] = Some(module.clone());
        Ok(module)
    }

    /// A file as NVRTC compiles it. `reason` says why that is needed.
    fn compile(
        &mut self,
        context: &Arc<Context>,
        index: usize,
        reason: String,
    ) -> Result<Arc<Module>, CudaError> {
        let (file, compute_capability) = (kernel_sources()[index].name, self.compute_capability);
        let cuda_version = self.cuda_version;
        let no_image = |reason| CudaError::NoImage { file, reason, cuda_version, compute_capability };
        if self.compiled.is_none() {
            let nvrtc = Nvrtc::load().map_err(|missing| no_image(format!("{reason}; {missing}")))?;
            let output = Output::for_card(self.compute_capability, &nvrtc.architectures()?);
            let cache = ImageCache::of_environment();
            self.compiled = Some(nvrtc.compile_all(kernel_sources(), output, &cache)?);
        }
        // Every file has its image, or the reason why not.
        let image = self.compiled.as_ref().and_then(|images| images.get(index)).cloned();
        let image = image.unwrap_or_else(|| Err(no_image(reason.clone())))?;
        Module::load(context, &image).map_err(|error| match error {
            LoadError::Image(failure) => {
                no_image(format!("{reason}; cuModuleLoadData of NVRTC's image: {}", name_of(failure)))
            }
            LoadError::Other(error) => error,
        })
    }
}

/// Errors that say that the driver cannot use this image, and might use another.
fn is_about_the_image(failure: DriverError) -> bool {
    matches!(
        failure.0,
        CUresult::CUDA_ERROR_INVALID_IMAGE
            | CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU
            | CUresult::CUDA_ERROR_INVALID_PTX
            | CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION
            | CUresult::CUDA_ERROR_JIT_COMPILER_NOT_FOUND
            | CUresult::CUDA_ERROR_NOT_SUPPORTED
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn sources_and_headers_are_embedded() {
        let names: Vec<_> = kernel_sources().iter().map(|source| source.name).collect();
        assert!(names.contains(&"elementwise") && names.is_sorted(), "{names:?}");
        assert!(kernel_headers().iter().any(|header| header.name == "nat_device.cuh"));
        for source in kernel_sources() {
            assert_eq!(source.fatbin.is_some(), cfg!(natv2_fatbin), "{}", source.name);
            // The magic number of a fat binary.
            assert!(source.fatbin.is_none_or(|image| image.starts_with(&[0x50, 0xed, 0x55, 0xba])));
        }
        assert_eq!(architectures().is_empty(), !cfg!(natv2_fatbin));
    }

    /// Every kernel as file and name.
    fn table() -> BTreeSet<(String, String)> {
        let row = |&(name, file): &(&str, usize)| (kernel_sources()[file].name.to_owned(), name.to_owned());
        kernel_table().iter().map(row).collect()
    }

    /// The table is made without a compiler. This list is made from what nvcc's images hold, and CI checks that.
    #[test]
    fn the_table_of_kernels_is_what_the_images_hold() {
        let rows = include_str!("../../../kernels/RESOURCES.md").lines().filter_map(|line| {
            let mut cells = line.strip_prefix("| ")?.split(" | ");
            Some((cells.next()?.strip_suffix(".cu")?.to_owned(), cells.next()?.to_owned()))
        });
        assert_eq!(table(), rows.collect());
        assert!(kernel_table().is_sorted());
    }

    #[cfg(natv2_emulator)]
    #[test]
    fn the_table_of_kernels_is_what_the_emulator_knows() {
        let known = crate::device::emulated::kernels().into_iter().map(|kernel| {
            let file = std::path::Path::new(&kernel.file);
            (file.file_stem().expect("a file").to_string_lossy().into_owned(), kernel.name)
        });
        assert_eq!(table(), known.collect());
    }
}
