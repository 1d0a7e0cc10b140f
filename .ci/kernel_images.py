"""What nvcc makes of each file of kernels/, made once for all that is checked of it, and for the build script.

It lies in target/kernel-images of this checkout and is made again where the compiler, the flags, the
file or a header has changed. Files are compiled side by side, as many as there are processors.

nvcc is the one of the environment variable NVCC, else of .ci/install-cuda-compiler. No GPU needed.
"""

import concurrent.futures
import dataclasses
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
KERNELS = ROOT / "kernels"
IMAGES = ROOT / "target" / "kernel-images"
ARCHITECTURES = ["sm_80", "sm_90"]


def virtual(arch):
    """The architecture that machine code for `arch` is made through."""
    return arch.replace("sm", "compute")


# Those of build/architectures.rs, and what says more of the same images.
FLAGS = ["-std=c++17", "-O3", "-lineinfo", "-fatbin", "-Xfatbin", "-compress-all"]
FLAGS += [f"-gencode=arch={virtual(arch)},code={arch}" for arch in ARCHITECTURES]
FLAGS += ["-gencode=arch=compute_80,code=compute_80"]
# Those of build/files.rs, where headers are, as build/cuda.rs gives them.
FOLDERS = sorted(folder for folder in KERNELS.iterdir() if folder.is_dir() and folder.name != "emulator")
INCLUDES = [word for folder in FOLDERS for word in ("-I", str(folder))]
TOLD = [*INCLUDES, "-Xptxas", "-v", "--keep"]
# Times that a file is compiled again before its images are said to have changed. nvcc's front end goes by addresses
# now and then: of one file it makes one of a few images, an instruction or a register apart.
TRIES = 4


@dataclasses.dataclass
class Image:
    """One file's."""

    source: pathlib.Path
    # For compute_80.
    ptx: str
    # What ptxas says of each kernel on each architecture.
    log: str
    # By architecture.
    cubins: dict
    # All in one, as programs load it.
    fatbin: pathlib.Path


def run(*command):
    """What a command says on standard output and on standard error."""
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{result.stdout}{result.stderr}")
    return result.stdout, result.stderr


def installed(variable, script):
    """The path of a tool, or None where it cannot be installed."""
    if os.environ.get(variable):
        return os.environ[variable]
    result = subprocess.run([ROOT / ".ci" / script], stdout=subprocess.PIPE, text=True)
    return result.stdout.strip() if result.returncode == 0 else None


def compiled(nvcc, source, common):
    """The image of a file, from last time if that will do; `common` is what all have in common."""
    folder = IMAGES / source.stem
    key = hashlib.sha256(common + source.read_bytes()).hexdigest()
    noted = folder / "key"
    ptx, log, fatbin = folder / f"{source.stem}.compute_80.ptx", folder / "log", folder / "fatbin"
    if not noted.exists() or noted.read_text() != key:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        log.write_text(run(nvcc, *FLAGS, *TOLD, "--keep-dir", folder, "-o", fatbin, source)[1])
        for file in set(folder.iterdir()) - {ptx, log, fatbin, *folder.glob("*.cubin")}:
            file.unlink()
        noted.write_text(key)
    # nvcc names them after what they are made through.
    cubins = {arch: next(folder.glob(f"*.{virtual(arch)}.*cubin")) for arch in ARCHITECTURES}
    return Image(source, ptx.read_text(), log.read_text(), cubins, fatbin)


def side_by_side(function, items):
    """What a function gives for each item, in their order."""
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as threads:
        return list(threads.map(function, items))


def settled(measure, table):
    """What `measure()` gives, the text of a table and more, where it says what the committed table does; files whose
    rows are others are compiled again for it, a few times."""
    committed = table.read_text() if table.exists() else ""
    result = measure()
    for _ in range(TRIES):
        others = set(result[0].splitlines()) ^ set(committed.splitlines())
        files = {line.split(" | ")[0].removeprefix("| ") for line in others if ".cu | " in line}
        keys = [key for key in (IMAGES / pathlib.Path(file).stem / "key" for file in files) if key.exists()]
        if not keys:
            break
        print(f"again: {', '.join(sorted(files))}", file=sys.stderr)
        for key in keys:
            key.unlink()
        result = measure()
    return result


def common_of(nvcc):
    """What the images of all files depend on."""
    common = run(nvcc, "--version")[0].encode() + " ".join(FLAGS + TOLD).encode()
    return common + b"".join(header.read_bytes() for header in files("cuh"))


def files(extension):
    """The kernels' files with this extension, in the order of their names."""
    return sorted((file for folder in FOLDERS for file in folder.glob(f"*.{extension}")), key=lambda file: file.stem)


def images():
    """Those of all files, in the order of their names."""
    nvcc = installed("NVCC", "install-cuda-compiler")
    if nvcc is None:
        sys.exit("no nvcc: see the message of .ci/install-cuda-compiler above")
    common = common_of(nvcc)
    return side_by_side(lambda source: compiled(nvcc, source, common), files("cu"))
