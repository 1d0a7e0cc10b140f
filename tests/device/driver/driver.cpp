// Stands in for the driver library, libcuda.so, so that the host side of CUDA runs without a card.
//
// A stream is a queue, and nothing on it is done before somebody waits for it: what a real card may do at any time is
// done as late as it can be. So memory that is used again too early, a copy whose source has changed, and an event on
// an idle stream show. Kernels are the emulator's, where the program hands over its functions; else they do nothing.
//
// FAKE_DRIVER in the environment: `stub` and `no_card` fail as such drivers do, `no_code` refuses all images.
// FAKE_DRIVER_CUDA is the version of CUDA, as 13000.
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace {

enum Code {
    kOk = 0,
    kInvalidValue = 1,
    kOutOfMemory = 2,
    kStub = 34,
    kNoDevice = 100,
    kNoBinary = 209,
    kNotFound = 500,
    kNotReady = 600,
    kLaunchFailed = 719
};

// kernels/emulator/launch.h.
struct LaunchRequest {
    const char* kernel;
    uint32_t grid[3], block[3], shared_bytes, argument_count;
    void* const* arguments;
    const size_t* argument_bytes;
    uint32_t threads, order;
    void* bank_counts;
};

struct KernelInfo {
    const char *name, *file;
    uint32_t max_threads, argument_count;
    const size_t* argument_bytes;
};

using Find = int (*)(const char*, KernelInfo*);
using Launch = int (*)(const LaunchRequest*, char*, size_t);

struct Stream {
    std::deque<std::function<void()>> queue;
};

struct EventState {
    Stream* stream = nullptr;
    uint64_t recorded = 0, done = 0;
    std::chrono::steady_clock::time_point time;
};

struct Event {
    std::shared_ptr<EventState> state = std::make_shared<EventState>();
};

struct Function {
    std::string name;
};

// A launch with copies of its arguments.
struct Prepared {
    std::string name;
    uint32_t grid[3], block[3], shared_bytes;
    std::vector<std::vector<uint64_t>> values;
    std::vector<size_t> bytes;
};

struct Graph {
    std::vector<Prepared> launches;
};

std::recursive_mutex mutex;
std::map<std::string, uint64_t> counts;
std::map<uint64_t, size_t> memory;
std::vector<Stream*> streams;
size_t used = 0, total = size_t{1} << 30;
Find find = nullptr;
Launch launch = nullptr;
int failed = kOk;
int context = 0;
thread_local void* current = nullptr;

std::string kind() {
    const char* value = std::getenv("FAKE_DRIVER");
    return value != nullptr ? value : "";
}

std::unique_lock<std::recursive_mutex> enter(const char* call) {
    std::unique_lock<std::recursive_mutex> lock(mutex);
    ++counts[call];
    return lock;
}

void run_all(Stream& stream) {
    while (!stream.queue.empty()) {
        const auto work = std::move(stream.queue.front());
        stream.queue.pop_front();
        work();
    }
}

void run_all() {
    for (Stream* stream : streams) run_all(*stream);
}

Prepared prepare(const Function& function, const uint32_t* grid, const uint32_t* block, uint32_t shared,
                 void** arguments) {
    Prepared made{function.name, {grid[0], grid[1], grid[2]}, {block[0], block[1], block[2]}, shared, {}, {}};
    KernelInfo info{};
    if (find == nullptr || find(function.name.c_str(), &info) != 1) return made;
    for (uint32_t i = 0; i < info.argument_count; ++i) {
        made.bytes.push_back(info.argument_bytes[i]);
        made.values.emplace_back((info.argument_bytes[i] + 7) / 8);
        std::memcpy(made.values.back().data(), arguments[i], info.argument_bytes[i]);
    }
    return made;
}

void run(Prepared& made) {
    if (launch == nullptr) return;
    std::vector<void*> arguments;
    for (auto& value : made.values) arguments.push_back(value.data());
    LaunchRequest request{made.name.c_str(), {}, {}, made.shared_bytes, uint32_t(arguments.size()), arguments.data(),
                          made.bytes.data(), 2, 0, nullptr};
    std::memcpy(request.grid, made.grid, sizeof made.grid);
    std::memcpy(request.block, made.block, sizeof made.block);
    char message[256];
    if (launch(&request, message, sizeof message) != 0) failed = kLaunchFailed;
}

}  // namespace

extern "C" {

// ---- for the test -------------------------------------------------------------------------------------------------

void fake_driver_emulate(Find emulator_find, Launch emulator_launch) {
    find = emulator_find;
    launch = emulator_launch;
}

void fake_driver_memory(size_t bytes) {
    const auto lock = enter("fake");
    total = bytes;
}

uint64_t fake_driver_count(const char* what) {
    const auto lock = enter("fake");
    return counts[what];
}

size_t fake_driver_used() {
    const auto lock = enter("fake");
    return used;
}

// ---- the driver ---------------------------------------------------------------------------------------------------

int cuInit(unsigned) {
    if (kind() == "stub") return kStub;
    return kind() == "no_card" ? kNoDevice : kOk;
}

int cuDriverGetVersion(int* version) {
    const char* value = std::getenv("FAKE_DRIVER_CUDA");
    *version = value != nullptr ? std::atoi(value) : 13000;
    return kOk;
}

int cuDeviceGetCount(int* count) {
    *count = 1;
    return kOk;
}

int cuDeviceGet(int* device, int ordinal) {
    *device = ordinal;
    return kOk;
}

int cuDeviceGetName(char* name, int length, int) {
    std::strncpy(name, "a card of paper", size_t(length));
    return kOk;
}

int cuDeviceGetAttribute(int* value, int attribute, int) {
    // Multiprocessors, compute capability, second-level cache, shared memory of a block, memory pools.
    const std::map<int, int> known = {{16, 132}, {75, 9}, {76, 0}, {38, 1 << 20}, {97, 227 << 10}, {115, 1}};
    const auto found = known.find(attribute);
    *value = found != known.end() ? found->second : 1;
    return kOk;
}

int cuDeviceTotalMem_v2(size_t* bytes, int) {
    *bytes = total;
    return kOk;
}

int cuDevicePrimaryCtxRetain(void** made, int) {
    *made = &context;
    return kOk;
}

int cuDevicePrimaryCtxRelease_v2(int) { return kOk; }

int cuCtxGetCurrent(void** found) {
    *found = current;
    return kOk;
}

int cuCtxSetCurrent(void* wanted) {
    current = wanted;
    return kOk;
}

int cuCtxSynchronize() {
    const auto lock = enter("cuCtxSynchronize");
    run_all();
    return failed;
}

int cuMemGetInfo_v2(size_t* free, size_t* all) {
    const auto lock = enter("cuMemGetInfo");
    *free = total - used;
    *all = total;
    return kOk;
}

int cuMemAlloc_v2(uint64_t* address, size_t bytes) {
    const auto lock = enter("cuMemAlloc");
    run_all();
    if (bytes == 0) return kInvalidValue;
    if (bytes > total || used > total - bytes) return kOutOfMemory;
    void* start = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
    if (start == nullptr) return kOutOfMemory;
    // Nothing of what the process had there before, right results for one.
    std::memset(start, 0x5a, bytes);
    *address = reinterpret_cast<uint64_t>(start);
    memory[*address] = bytes;
    used += bytes;
    return kOk;
}

int cuMemFree_v2(uint64_t address) {
    const auto lock = enter("cuMemFree");
    run_all();
    const auto found = memory.find(address);
    if (found == memory.end()) return kInvalidValue;
    used -= found->second;
    std::free(reinterpret_cast<void*>(address));
    memory.erase(found);
    return kOk;
}

int cuMemHostAlloc(void** start, size_t bytes, unsigned) {
    *start = std::malloc(bytes);
    return kOk;
}

int cuMemFreeHost(void* start) {
    std::free(start);
    return kOk;
}

int cuMemcpyHtoDAsync_v2(uint64_t to, const void* from, size_t bytes, Stream* stream) {
    const auto lock = enter("cuMemcpyHtoDAsync");
    stream->queue.push_back([=] { std::memcpy(reinterpret_cast<void*>(to), from, bytes); });
    return failed;
}

int cuMemcpyDtoHAsync_v2(void* to, uint64_t from, size_t bytes, Stream* stream) {
    const auto lock = enter("cuMemcpyDtoHAsync");
    stream->queue.push_back([=] { std::memcpy(to, reinterpret_cast<void*>(from), bytes); });
    return failed;
}

int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes, Stream* stream) {
    const auto lock = enter("cuMemcpyDtoDAsync");
    stream->queue.push_back(
        [=] { std::memmove(reinterpret_cast<void*>(to), reinterpret_cast<void*>(from), bytes); });
    return failed;
}

int cuMemsetD8Async(uint64_t at, unsigned char value, size_t bytes, Stream* stream) {
    const auto lock = enter("cuMemsetD8Async");
    stream->queue.push_back([=] { std::memset(reinterpret_cast<void*>(at), value, bytes); });
    return failed;
}

int cuStreamCreate(Stream** made, unsigned) {
    const auto lock = enter("cuStreamCreate");
    streams.push_back(*made = new Stream);
    return kOk;
}

// Work goes on when its stream has been destroyed, so the queue stays.
int cuStreamDestroy_v2(Stream*) { return kOk; }

int cuStreamSynchronize(Stream* stream) {
    const auto lock = enter("cuStreamSynchronize");
    run_all(*stream);
    return failed;
}

int cuEventCreate(Event** made, unsigned) {
    const auto lock = enter("cuEventCreate");
    *made = new Event;
    return kOk;
}

int cuEventDestroy_v2(Event* event) {
    const auto lock = enter("cuEventDestroy");
    delete event;
    return kOk;
}

int cuEventRecord(Event* event, Stream* stream) {
    const auto lock = enter("cuEventRecord");
    if (stream->queue.empty()) ++counts["an event on an idle stream"];
    const auto state = event->state;
    state->stream = stream;
    const uint64_t number = ++state->recorded;
    stream->queue.push_back([=] {
        state->done = number;
        state->time = std::chrono::steady_clock::now();
    });
    return failed;
}

int cuEventQuery(Event* event) {
    const auto lock = enter("cuEventQuery");
    return event->state->done == event->state->recorded ? failed : int(kNotReady);
}

int cuEventSynchronize(Event* event) {
    const auto lock = enter("cuEventSynchronize");
    const auto state = event->state;
    while (state->done != state->recorded && !state->stream->queue.empty()) {
        const auto work = std::move(state->stream->queue.front());
        state->stream->queue.pop_front();
        work();
    }
    return failed;
}

int cuEventElapsedTime(float* milliseconds, Event* from, Event* to) {
    const auto lock = enter("cuEventElapsedTime");
    *milliseconds = std::chrono::duration<float, std::milli>(to->state->time - from->state->time).count();
    return failed;
}

int cuModuleLoadData(void** made, const void*) {
    const auto lock = enter("cuModuleLoadData");
    if (kind() == "no_code") return kNoBinary;
    *made = &context;
    return kOk;
}

int cuModuleUnload(void*) { return kOk; }

int cuModuleGetFunction(Function** made, void*, const char* name) {
    const auto lock = enter("cuModuleGetFunction");
    KernelInfo info{};
    if (find != nullptr && find(name, &info) != 1) return kNotFound;
    *made = new Function{name};
    return kOk;
}

int cuFuncGetAttribute(int* value, int, Function*) {
    *value = 0;
    return kOk;
}

int cuFuncSetAttribute(Function*, int attribute, int value) {
    const auto lock = enter("cuFuncSetAttribute");
    if (attribute == 9) ++counts["carve-out of " + std::to_string(value)];
    return kOk;
}

int cuLaunchKernel(Function* function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared, Stream* stream, void** arguments, void**) {
    const auto lock = enter("cuLaunchKernel");
    const uint32_t grid[3] = {gx, gy, gz}, block[3] = {bx, by, bz};
    auto made = std::make_shared<Prepared>(prepare(*function, grid, block, shared, arguments));
    stream->queue.push_back([=] { run(*made); });
    return failed;
}

struct NodeParameters {
    Function* function;
    uint32_t grid[3], block[3], shared_bytes;
    void** arguments;
    void** extra;
};

int cuGraphCreate(Graph** made, unsigned) {
    *made = new Graph;
    return kOk;
}

int cuGraphAddKernelNode_v2(void** node, Graph* graph, void* const*, size_t count, const NodeParameters* p) {
    const auto lock = enter("cuGraphAddKernelNode");
    // A chain: each behind the one before.
    if (count != (graph->launches.empty() ? 0u : 1u)) return kInvalidValue;
    graph->launches.push_back(prepare(*p->function, p->grid, p->block, p->shared_bytes, p->arguments));
    *node = graph;
    return kOk;
}

int cuGraphInstantiateWithFlags(Graph** made, Graph* graph, unsigned long long) {
    const auto lock = enter("cuGraphInstantiate");
    if (used == total) return kOutOfMemory;
    *made = new Graph(*graph);
    return kOk;
}

int cuGraphLaunch(Graph* graph, Stream* stream) {
    const auto lock = enter("cuGraphLaunch");
    for (const Prepared& made : graph->launches) {
        auto copy = std::make_shared<Prepared>(made);
        stream->queue.push_back([=] { run(*copy); });
    }
    return failed;
}

int cuGraphExecDestroy(Graph* graph) {
    delete graph;
    return kOk;
}

int cuGraphDestroy(Graph* graph) {
    delete graph;
    return kOk;
}

int cuGetErrorName(int, const char** name) {
    *name = "an error";
    return kOk;
}

int cuGetErrorString(int, const char** text) {
    *text = "an error of the fake driver";
    return kOk;
}
}
