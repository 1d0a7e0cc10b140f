// The CUDA emulator, as a kernel sees it. `nat_device.cuh` includes this file, and a kernel
// includes only that.
//
// What it is: the sources in kernels/ are compiled a second time by an ordinary C++17 compiler
// against these headers. A kernel becomes a plain function; a CUDA thread becomes a fiber (an own
// stack and a few saved registers) that runs until it reaches a barrier or a warp collective; the
// blocks of a launch are shared out over operating-system threads.
//
// What it is for: proving kernels where there is no GPU. The sources are the same, so indexing,
// tiling, barriers, fragment layouts and edge cases are what a card would run. What differs is
// speed, the last bits of exp, rsqrt and the like, and the order in which a tensor core adds.
//
// Where to read on, one idea a file:
//   types.h       qualifiers (__device__ ...), vector types, dim3
//   half.h        __half, __nv_bfloat16 and their pairs
//   math.h        device math functions under their CUDA names
//   fiber.h/.cpp  switching stacks: x86-64 assembly, else ucontext
//   block.h/.cpp  the scheduler of a block: threads, __syncthreads, errors such as divergence
//   warp.h/.cpp   warp collectives: shuffles, votes, __syncwarp
//   mma.h/.cpp    mma.m16n8k16 and ldmatrix with PTX's fragment layouts
//   atomics.h     atomicAdd and its kin
//   async_copy.h  cp.async with commit and wait groups
//   bank_conflicts.h/.cpp  counts of bank conflicts, for launches that ask
//   shared.h/.cpp shared memory: exact size, poisoned afresh for each block
//   launch.h/.cpp the table of kernels, launches, operating-system threads, the C interface
//   sanitizer.h   what Address- and ThreadSanitizer have to be told about fibers
#pragma once

#include "types.h"

#include "half.h"
#include "math.h"

#include "block.h"

#include "atomics.h"
#include "async_copy.h"
#include "bank_conflicts.h"
#include "launch.h"
#include "mma.h"
#include "shared.h"
#include "warp.h"
