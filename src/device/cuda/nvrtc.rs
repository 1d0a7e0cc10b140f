//! NVRTC, CUDA's run-time compiler, from the machine's own toolkit.
//!
//! Loaded by name at run time. cudarc knows it too, but only under the names of one CUDA release
//! and on the library path; the library wanted here is the one that fits the driver, whatever its
//! release, and it may be under `CUDA_HOME` only.
//!
//! It opens a second library by name, its builtins, which lies in the same folder. Where that folder is not on the
//! library path the name leads nowhere, so the file is loaded beforehand: the loader then knows it by that name.
//!
//! The kernels' headers are handed over as texts, and `nat_device.cuh` includes nothing of CUDA's
//! under NVRTC, so no include path is needed.

use super::cache::{ImageCache, Key, compile_all};
use super::error::CudaError;
use super::images::{KernelSource, kernel_headers};
use libloading::{Library, Symbol};
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::{Path, PathBuf};

type Program = *mut c_void;

/// What to compile to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Machine code for a compute capability, as 90.
    Cubin(u32),
    /// PTX for a compute capability, which the driver translates.
    Ptx(u32),
}

impl Output {
    /// Machine code where NVRTC knows the card, else PTX for the newest architecture below it.
    pub fn for_card(compute_capability: (u32, u32), architectures: &[u32]) -> Output {
        let card = compute_capability.0 * 10 + compute_capability.1;
        if architectures.contains(&card) {
            return Output::Cubin(card);
        }
        let below = architectures.iter().copied().filter(|&architecture| architecture <= card).max();
        Output::Ptx(below.unwrap_or(card))
    }
}

/// The compiler.
#[derive(Debug)]
pub struct Nvrtc {
    library: Library,
    path: PathBuf,
    /// Never asked for anything here; it is there as long as the compiler is.
    _builtins: Option<Library>,
}

impl Nvrtc {
    /// Loads the library. Never panics.
    ///
    /// # Errors
    ///
    /// A sentence that says where it was looked for.
    pub fn load() -> Result<Nvrtc, String> {
        // Unversioned first: the toolkit that the user has chosen.
        let names = ["libnvrtc.so", "libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so.11.2"];
        let mut folders = vec![PathBuf::new()];
        for variable in ["CUDA_HOME", "CUDA_PATH"] {
            folders.extend(std::env::var_os(variable).map(|home| Path::new(&home).join("lib64")));
            folders.extend(std::env::var_os(variable).map(|home| Path::new(&home).join("lib")));
        }
        folders.push(PathBuf::from("/usr/local/cuda/lib64"));
        for path in folders.iter().flat_map(|folder| names.iter().map(move |name| folder.join(name))) {
            // SAFETY: NVRTC's constructors do nothing that could harm the program.
            if let Ok(library) = unsafe { Library::new(&path) } {
                let mut nvrtc = Nvrtc { library, path, _builtins: None };
                nvrtc._builtins = nvrtc.load_builtins();
                return Ok(nvrtc);
            }
        }
        Err("NVRTC (libnvrtc.so) was not found on the library path, under CUDA_HOME or in /usr/local/cuda"
            .to_owned())
    }

    /// The builtins of the compiler's own folder and version, where it was loaded from a folder.
    fn load_builtins(&self) -> Option<Library> {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty())?;
        let (major, minor) = self.version().ok()?;
        let names = [format!("libnvrtc-builtins.so.{major}.{minor}"), "libnvrtc-builtins.so".to_owned()];
        names.iter().find_map(|name| {
            // SAFETY: as for the compiler, which would load it too.
            unsafe { Library::new(folder.join(name)) }.ok()
        })
    }

    /// Where it was loaded from: a name where the system's library path was used.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its version, major and minor.
    ///
    /// # Errors
    ///
    /// [`CudaError::Nvrtc`].
    pub fn version(&self) -> Result<(u32, u32), CudaError> {
        let (mut major, mut minor): (c_int, c_int) = (0, 0);
        // SAFETY: the signature is NVRTC's; it writes two integers.
        let code = unsafe {
            let version: Symbol<'_, unsafe extern "C" fn(*mut c_int, *mut c_int) -> c_int> =
                self.symbol("nvrtcVersion")?;
            version(&mut major, &mut minor)
        };
        self.check("nvrtcVersion", "", code, String::new)?;
        Ok((major.unsigned_abs(), minor.unsigned_abs()))
    }

    /// The compute capabilities that it makes code for, as 80 or 90.
    ///
    /// # Errors
    ///
    /// [`CudaError::Nvrtc`].
    pub fn architectures(&self) -> Result<Vec<u32>, CudaError> {
        let mut count: c_int = 0;
        // SAFETY: the signatures are NVRTC's; the array has as many integers as it asks for.
        unsafe {
            let number: Symbol<'_, unsafe extern "C" fn(*mut c_int) -> c_int> =
                self.symbol("nvrtcGetNumSupportedArchs")?;
            self.check("nvrtcGetNumSupportedArchs", "", number(&mut count), String::new)?;
            let mut found: Vec<c_int> = vec![0; usize::try_from(count).unwrap_or(0)];
            let list: Symbol<'_, unsafe extern "C" fn(*mut c_int) -> c_int> =
                self.symbol("nvrtcGetSupportedArchs")?;
            self.check("nvrtcGetSupportedArchs", "", list(found.as_mut_ptr()), String::new)?;
            Ok(found.into_iter().map(c_int::unsigned_abs).collect())
        }
    }

    /// Compiles a kernel source.
    ///
    /// # Errors
    ///
    /// [`CudaError::Nvrtc`], with what the compiler printed.
    pub fn compile(&self, source: &KernelSource, output: Output) -> Result<Vec<u8>, CudaError> {
        let file = format!("{}.cu", source.name);
        let text = c_string(&file, source.text)?;
        let name = c_string(&file, &file)?;
        let mut texts = Vec::new();
        let mut names = Vec::new();
        for header in kernel_headers() {
            texts.push(c_string(&file, header.text)?);
            names.push(c_string(&file, header.name)?);
        }
        let text_pointers: Vec<*const c_char> = texts.iter().map(|text| text.as_ptr()).collect();
        let name_pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();

        let mut program = OpenProgram { nvrtc: self, program: std::ptr::null_mut() };
        // SAFETY: the signature is NVRTC's; all texts live until the program is closed.
        unsafe {
            type Create = unsafe extern "C" fn(
                *mut Program,
                *const c_char,
                *const c_char,
                c_int,
                *const *const c_char,
                *const *const c_char,
            ) -> c_int;
            let create: Symbol<'_, Create> = self.symbol("nvrtcCreateProgram")?;
            let code = create(
                &mut program.program,
                text.as_ptr(),
                name.as_ptr(),
                text_pointers.len() as c_int,
                text_pointers.as_ptr(),
                name_pointers.as_ptr(),
            );
            self.check("nvrtcCreateProgram", &file, code, String::new)?;
        }

        let options: Vec<CString> =
            options(output).iter().map(|option| c_string(&file, option)).collect::<Result<_, _>>()?;
        let option_pointers: Vec<*const c_char> = options.iter().map(|option| option.as_ptr()).collect();
        // SAFETY: the signature is NVRTC's; the program is open.
        unsafe {
            let compile: Symbol<'_, unsafe extern "C" fn(Program, c_int, *const *const c_char) -> c_int> =
                self.symbol("nvrtcCompileProgram")?;
            let code = compile(program.program, option_pointers.len() as c_int, option_pointers.as_ptr());
            self.check("nvrtcCompileProgram", &file, code, || program.log())?;
        }
        match output {
            Output::Cubin(_) => program.bytes(&file, "nvrtcGetCUBINSize", "nvrtcGetCUBIN"),
            Output::Ptx(_) => program.bytes(&file, "nvrtcGetPTXSize", "nvrtcGetPTX"),
        }
    }

    /// Compiles kernel sources, as many at a time as there are processors; images that the cache has are not made
    /// again. In the order of the sources.
    ///
    /// # Errors
    ///
    /// [`CudaError::Nvrtc`] where the library does not tell its version.
    pub fn compile_all(
        &self,
        sources: &[KernelSource],
        output: Output,
        cache: &ImageCache,
    ) -> Result<Vec<Result<Vec<u8>, CudaError>>, CudaError> {
        let (version, options) = (self.version()?, options(output));
        let key = |source: &KernelSource| Key::new(source, kernel_headers(), &options, version);
        let threads = rayon::current_num_threads();
        Ok(compile_all(sources, cache, key, |source| self.compile(source, output), threads))
    }

    /// # Safety
    ///
    /// `T` must be the function's type.
    unsafe fn symbol<T>(&self, name: &'static str) -> Result<Symbol<'_, T>, CudaError> {
        // SAFETY: passed on to the caller.
        unsafe { self.library.get(name.as_bytes()) }.map_err(|error| CudaError::Nvrtc {
            call: name,
            file: self.path.display().to_string(),
            code: "not in the library".to_owned(),
            log: error.to_string(),
        })
    }

    fn check(
        &self,
        call: &'static str,
        file: &str,
        code: c_int,
        log: impl FnOnce() -> String,
    ) -> Result<(), CudaError> {
        if code == 0 {
            return Ok(());
        }
        // SAFETY: the signature is NVRTC's; it returns a constant string for every number.
        let name = unsafe {
            let name: Symbol<'_, unsafe extern "C" fn(c_int) -> *const c_char> =
                self.symbol("nvrtcGetErrorString")?;
            CStr::from_ptr(name(code)).to_string_lossy().into_owned()
        };
        Err(CudaError::Nvrtc { call, file: file.to_owned(), code: name, log: log() })
    }
}

/// How NVRTC is called.
fn options(output: Output) -> Vec<String> {
    let architecture = match output {
        Output::Cubin(number) => format!("--gpu-architecture=sm_{number}"),
        Output::Ptx(number) => format!("--gpu-architecture=compute_{number}"),
    };
    vec!["--std=c++17".to_owned(), architecture, "--generate-line-info".to_owned()]
}

fn c_string(file: &str, text: &str) -> Result<CString, CudaError> {
    CString::new(text).map_err(|error| CudaError::Nvrtc {
        call: "nvrtcCreateProgram",
        file: file.to_owned(),
        code: "a NUL in a text".to_owned(),
        log: error.to_string(),
    })
}

/// A program under compilation, closed when dropped.
struct OpenProgram<'a> {
    nvrtc: &'a Nvrtc,
    program: Program,
}

impl OpenProgram<'_> {
    /// Asks for a size, then for so many bytes.
    fn bytes(&self, file: &str, size_call: &'static str, call: &'static str) -> Result<Vec<u8>, CudaError> {
        let mut size = 0usize;
        // SAFETY: the signatures are NVRTC's; the buffer has the size that it asks for.
        unsafe {
            let get_size: Symbol<'_, unsafe extern "C" fn(Program, *mut usize) -> c_int> =
                self.nvrtc.symbol(size_call)?;
            self.nvrtc.check(size_call, file, get_size(self.program, &mut size), String::new)?;
            let mut bytes = vec![0u8; size];
            let get: Symbol<'_, unsafe extern "C" fn(Program, *mut c_char) -> c_int> =
                self.nvrtc.symbol(call)?;
            self.nvrtc.check(call, file, get(self.program, bytes.as_mut_ptr().cast()), String::new)?;
            Ok(bytes)
        }
    }

    fn log(&self) -> String {
        let bytes = self.bytes("", "nvrtcGetProgramLogSize", "nvrtcGetProgramLog").unwrap_or_default();
        String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_owned()
    }
}

impl Drop for OpenProgram<'_> {
    fn drop(&mut self) {
        if self.program.is_null() {
            return;
        }
        // SAFETY: the signature is NVRTC's; the program is open and not used again.
        unsafe {
            if let Ok(destroy) =
                self.nvrtc.symbol::<unsafe extern "C" fn(*mut Program) -> c_int>("nvrtcDestroyProgram")
            {
                destroy(&mut self.program);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::images::{kernel_sources, kernel_table};
    use super::*;

    #[test]
    fn a_card_gets_machine_code_if_nvrtc_knows_it() {
        assert_eq!(Output::for_card((9, 0), &[80, 86, 90]), Output::Cubin(90));
        assert_eq!(Output::for_card((12, 0), &[80, 86, 90]), Output::Ptx(90));
        assert_eq!(Output::for_card((7, 0), &[80]), Output::Ptx(70));
    }

    /// Where NVRTC is installed it compiles every kernel, without headers, to images that hold the kernels that the
    /// table of the build says. `NATV2_TEST_NVRTC=required` says that it is installed.
    #[test]
    fn nvrtc_compiles_every_kernel() {
        let nvrtc = match Nvrtc::load() {
            Ok(nvrtc) => nvrtc,
            Err(reason) => {
                let required = std::env::var("NATV2_TEST_NVRTC").is_ok_and(|value| value == "required");
                assert!(!required, "NVRTC has to be there: {reason}");
                assert!(reason.contains("libnvrtc.so"), "{reason}");
                return;
            }
        };
        assert!(nvrtc.version().expect("version") >= (11, 2));
        let architectures = nvrtc.architectures().expect("architectures");
        let folder = tempfile::tempdir().expect("a folder");
        let cache = ImageCache::at(folder.path());
        let output = Output::for_card((9, 0), &architectures);
        let images = nvrtc.compile_all(kernel_sources(), output, &cache).expect("a version");
        let images: Vec<Vec<u8>> =
            images.into_iter().map(|image| image.unwrap_or_else(|error| panic!("{error}"))).collect();
        for &(name, file) in kernel_table() {
            let within = images[file].windows(name.len()).any(|window| window == name.as_bytes());
            assert!(within, "{name} is in the image of {}.cu", kernel_sources()[file].name);
        }
        assert_eq!(std::fs::read_dir(folder.path()).expect("files").count(), images.len());

        // The emulator's samples use everything in nat_device.cuh, tensor cores and cp.async included.
        let samples = KernelSource {
            name: "samples",
            text: include_str!("../../../kernels/emulator/tests/samples.cu"),
            fatbin: None,
        };
        for card in [(8, 0), (9, 0)] {
            let output = Output::for_card(card, &architectures);
            let image = nvrtc.compile(&samples, output).unwrap_or_else(|error| panic!("{error}"));
            assert!(image.len() > 100);
        }
        let wrong = KernelSource { name: "wrong", text: "__global__ void f( {", fatbin: None };
        let error = nvrtc.compile(&wrong, Output::Ptx(80)).expect_err("not CUDA C++").to_string();
        assert!(error.contains("nvrtcCompileProgram") && error.contains("wrong.cu"), "{error}");
    }
}
