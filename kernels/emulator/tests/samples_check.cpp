// Checks of the sample kernels against plain loops. Whole numbers, so results must be exact.
#include "../half.h"
#include "../shared.h"
#include "check.h"

#include <algorithm>
#include <numeric>

using check::expect;
using check::launch;

namespace {

std::vector<float> matmul(const std::vector<float>& a, const std::vector<float>& b, int m, int n, int k) {
    std::vector<float> c(static_cast<std::size_t>(m) * n);
    for (int i = 0; i < m; ++i) {
        for (int q = 0; q < k; ++q) {
            for (int j = 0; j < n; ++j) c[i * n + j] += a[i * k + q] * b[q * n + j];
        }
    }
    return c;
}

void expect_equal(const char* what, const std::vector<float>& got, const std::vector<float>& wanted) {
    for (std::size_t i = 0; i < wanted.size(); ++i) {
        expect(got[i] == wanted[i], "%s: element %zu is %g, not %g", what, i, got[i], wanted[i]);
    }
}

template <class T>
std::vector<T> narrow(const std::vector<float>& values) {
    std::vector<T> result(values.size());
    for (std::size_t i = 0; i < values.size(); ++i) {
        if constexpr (std::is_same_v<T, __half>) {
            result[i] = __float2half(values[i]);
        } else {
            result[i] = __float2bfloat16(values[i]);
        }
    }
    return result;
}

template <class T>
void check_mma(const char* kernel) {
    const int m = 32, n = 32, k = 48;
    check::Numbers numbers(3);
    const std::vector<float> a = numbers.floats(m * k), b = numbers.floats(k * n);
    std::vector<float> transposed(b.size());
    for (int q = 0; q < k; ++q) {
        for (int j = 0; j < n; ++j) transposed[j * k + q] = b[q * n + j];
    }
    const std::vector<T> left = narrow<T>(a), right = narrow<T>(transposed);
    std::vector<float> d(m * n, -1.0f);
    launch(kernel, {n / 8 / 2, m / 16}, {64}, 0, left.data(), right.data(), d.data(), n, k);
    expect_equal(kernel, d, matmul(a, b, m, n, k));
}

}  // namespace

NAT_CHECK(matmul) {
    check::Numbers numbers(1);
    const int sizes[][3] = {{16, 16, 16}, {33, 61, 70}, {1, 1, 1}, {64, 64, 3}, {65, 66, 17}};
    for (const auto& [m, n, k] : sizes) {
        const std::vector<float> a = numbers.floats(m * k), b = numbers.floats(k * n), wanted = matmul(a, b, m, n, k);
        std::vector<float> c(m * n, NAN);
        launch("sample_matmul_tiled", {(n + 15u) / 16, (m + 15u) / 16}, {16, 16}, 0, a.data(), b.data(), c.data(), m, n, k);
        expect_equal("tiled", c, wanted);
        std::fill(c.begin(), c.end(), NAN);
        launch("sample_matmul_blocked", {(n + 63u) / 64, (m + 63u) / 64}, {256}, 2 * 16 * 64 * sizeof(float), a.data(),
               b.data(), c.data(), m, n, k);
        expect_equal("blocked", c, wanted);
    }
}

NAT_CHECK(reduce) {
    check::Numbers numbers(2);
    const std::vector<float> x = numbers.floats(5000);
    float sum = 0.0f;
    launch("sample_reduce", {6}, {256}, 0, static_cast<const float*>(x.data()), &sum, static_cast<int>(x.size()));
    const float wanted = std::accumulate(x.begin(), x.end(), 0.0f);
    expect(sum == wanted, "the sum is %g, not %g", sum, wanted);
}

NAT_CHECK(collectives) {
    const int threads = 96;
    for (int width : {32, 16, 4, 1}) {
        for (int operand : {0, 1, 3, 17, 31}) {
            std::vector<int> out(threads * 12, -1);
            launch("sample_collectives", {1}, {threads}, 0, out.data(), width, operand);
            for (int thread = 0; thread < threads; ++thread) {
                const int lane = thread % 32, segment = lane / width * width, last = segment + width - 1;
                const int* mine = &out[thread * 12];
                int sum = 20;
                if (lane < 16) sum = 15 * 16 / 2;
                const int wanted[12] = {segment + operand % width,
                                        lane - operand < segment ? lane : lane - operand,
                                        lane + operand > last ? lane : lane + operand,
                                        (lane ^ operand) > last ? lane : lane ^ operand,
                                        0x49249249,
                                        1,
                                        0,
                                        sum,
                                        (threads + 4) / 5,
                                        1,
                                        0,
                                        lane ^ 1};
                for (int i = 0; i < 12; ++i) {
                    expect(mine[i] == wanted[i], "width %d, operand %d, thread %d: value %d is %d, not %d", width, operand,
                           thread, i, mine[i], wanted[i]);
                }
            }
        }
    }
}

NAT_CHECK(early_exit) {
    int out[8] = {};
    launch("sample_early_exit", {1}, {20}, 0, &out[0]);
    for (int value : out) expect(value == 28, "%d, not 28", value);
}

NAT_CHECK(atomics) {
    const int threads = 4 * 64;
    int ints[7] = {0, 0, 0, 0, 0, -1, 0};
    unsigned words[4] = {0, 0, 0xffffffffu, 0};
    float sum = 0.0f;
    launch("sample_atomics", {4}, {64}, 0, &ints[0], &words[0], &sum);
    expect(ints[0] == threads && ints[1] == -2 * threads && ints[2] == threads - 1 && ints[3] == 1 - threads,
           "add %d, sub %d, max %d, min %d", ints[0], ints[1], ints[2], ints[3]);
    expect(ints[4] == 0x7fffffff && ints[5] == static_cast<int>(0x80000000u), "or %x, and %x", ints[4], ints[5]);
    expect(ints[6] >= 1 && ints[6] <= threads, "compare and swap %d", ints[6]);
    expect(words[0] == 3 * threads && words[1] == 0x80000000u + threads - 1 && words[2] == 0xffffffffu - (threads - 1) &&
               words[3] == 7,
           "add %u, max %x, min %x, exchange %u", words[0], words[1], words[2], words[3]);
    expect(sum == threads, "float add %g", sum);
}

NAT_CHECK(mma_half) { check_mma<__half>("sample_mma_f16"); }
NAT_CHECK(mma_bfloat16) { check_mma<__nv_bfloat16>("sample_mma_bf16"); }

NAT_CHECK(mma_pipeline) {
    const int k = 80;
    check::Numbers numbers(4);
    const std::vector<float> a = numbers.floats(16 * k), b = numbers.floats(k * 8);
    const std::vector<__half> left = narrow<__half>(a), right = narrow<__half>(b);
    // cp.async wants 16-byte alignment, which vectors have.
    std::vector<float> d(16 * 8, NAN);
    launch("sample_mma_pipeline", {1}, {32}, 0, left.data(), right.data(), d.data(), k);
    expect_equal("pipeline", d, matmul(a, b, 16, 8, k));
}

NAT_CHECK(ldmatrix) {
    unsigned short in[4][8][8];
    for (int m = 0; m < 4; ++m) {
        for (int r = 0; r < 8; ++r) {
            for (int c = 0; c < 8; ++c) in[m][r][c] = static_cast<unsigned short>(m * 1000 + r * 10 + c);
        }
    }
    std::vector<unsigned> out(32 * 14);
    launch("sample_ldmatrix", {1}, {32}, 0, static_cast<const unsigned short*>(&in[0][0][0]), out.data());
    // Matrix and transposition of each of the 14 registers.
    const int matrix[14] = {0, 0, 1, 0, 1, 2, 3, 0, 0, 1, 0, 1, 2, 3};
    for (int lane = 0; lane < 32; ++lane) {
        const int g = lane / 4, t = lane % 4;
        for (int i = 0; i < 14; ++i) {
            const auto& m = in[matrix[i]];
            const unsigned low = i < 7 ? m[g][2 * t] : m[2 * t][g], high = i < 7 ? m[g][2 * t + 1] : m[2 * t + 1][g];
            expect(out[lane * 14 + i] == (low | high << 16), "lane %d, register %d: %08x, not %08x", lane, i,
                   out[lane * 14 + i], low | high << 16);
        }
    }
}

NAT_CHECK(async_copy) {
    // The input ends inside a thread's part: nothing beyond it may be read.
    const int threads = 32, n = 8 * 20 + 5;
    std::vector<float> in(n), out(threads * 7, NAN);
    std::iota(in.begin(), in.end(), 1.0f);
    launch("sample_async_copy", {1}, {threads}, threads * 7 * sizeof(float), static_cast<const float*>(in.data()),
           out.data(), n);
    for (int thread = 0; thread < threads; ++thread) {
        for (int j = 0; j < 7; ++j) {
            const int last_of_copy = thread * 8 + (j < 4 ? 3 : j < 6 ? 5 : 6);
            const float wanted = last_of_copy < n ? in[thread * 8 + j] : 0.0f;
            expect(out[thread * 7 + j] == wanted, "thread %d, float %d: %g, not %g", thread, j, out[thread * 7 + j], wanted);
        }
    }
}

NAT_CHECK(half_kernel) {
    const int n = 200;
    check::Numbers numbers(5);
    std::vector<unsigned> in(n), out(2 * n);
    for (unsigned& bits : in) bits = (numbers.bits() & 0x3fff3fffu) | (numbers.bits() & 0x80008000u);
    launch("sample_half", {2}, {128}, 0, static_cast<const unsigned*>(in.data()), out.data(), n);
    for (int i = 0; i < n; ++i) {
        const __half x = {static_cast<uint16_t>(in[i])}, y = {static_cast<uint16_t>(in[i] >> 16)};
        const unsigned wanted = __hadd(x, y).bits | static_cast<unsigned>(__hmul(x, y).bits) << 16;
        expect(out[2 * i] == wanted, "half %d: %08x, not %08x", i, out[2 * i], wanted);
        const __nv_bfloat16 u = {x.bits}, v = {y.bits};
        const unsigned wanted_b = __hadd(u, v).bits | static_cast<unsigned>(__hmul(u, v).bits) << 16;
        expect(out[2 * i + 1] == wanted_b, "bfloat16 %d: %08x, not %08x", i, out[2 * i + 1], wanted_b);
    }
}

NAT_CHECK(shared_memory_is_poisoned_for_every_block) {
    const unsigned blocks = 5, threads = 33;
    std::vector<unsigned> seen(blocks * threads);
    launch("sample_poison", {blocks}, {threads}, threads * sizeof(unsigned), seen.data());
    for (unsigned value : seen) expect(value == nat_emulator::kPoison, "%08x", value);
}

NAT_CHECK(indices) {
    std::vector<uint4> out(2 * 3 * 4 * 30);
    launch("sample_indices", {2, 3, 4}, {5, 3, 2}, 0, out.data());
    unsigned at = 0;
    for (unsigned bz = 0; bz < 4; ++bz) for (unsigned by = 0; by < 3; ++by) for (unsigned bx = 0; bx < 2; ++bx) {
        for (unsigned tz = 0; tz < 2; ++tz) for (unsigned ty = 0; ty < 3; ++ty) for (unsigned tx = 0; tx < 5; ++tx) {
            const uint4 got = out[at];
            expect(got.x == bx * 100 + tx && got.y == by * 100 + ty && got.z == bz * 100 + tz && got.w == at % 30,
                   "element %u: (%u, %u, %u), thread %u", at, got.x, got.y, got.z, got.w);
            ++at;
        }
    }
}

NAT_CHECK(wrong_launches_are_refused) {
    int value = 0;
    float wide = 0.0f;
    auto refused = [](const check::Outcome& outcome, nat_emulator::Status status, const char* text) {
        expect(outcome.status == static_cast<int>(status) && outcome.message.find(text) != std::string::npos,
               "status %d, %s", outcome.status, outcome.message.c_str());
    };
    using nat_emulator::Status;
    refused(check::try_launch("no_such_kernel", {1}, {1}, 0), Status::kUnknownKernel, "no_such_kernel");
    refused(check::try_launch("sample_early_exit", {1}, {1}, 0), Status::kBadArguments, "1 arguments, not 0");
    refused(check::try_launch("sample_early_exit", {1}, {1}, 0, value), Status::kBadArguments, "8 bytes, not 4");
    refused(check::try_launch("sample_early_exit", {0}, {1}, 0, &value), Status::kBadConfiguration, "grid of (0, 1, 1)");
    refused(check::try_launch("sample_early_exit", {1}, {1025}, 0, &value), Status::kBadConfiguration, "1 to 1024");
    refused(check::try_launch("sample_early_exit", {1}, {1, 1, 65}, 0, &value), Status::kBadConfiguration, "z at most 64");
    refused(check::try_launch("sample_matmul_blocked", {1}, {512}, 0, static_cast<const float*>(&wide),
                              static_cast<const float*>(&wide), &wide, 1, 1, 1),
            Status::kBadConfiguration, "1 to 256");
    refused(check::try_launch("sample_early_exit", {1}, {1}, 300000, &value), Status::kBadConfiguration, "300000 bytes");
}
