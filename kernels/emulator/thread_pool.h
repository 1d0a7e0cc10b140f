// Operating-system threads that stay between launches. Internal to the emulator's .cpp files.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace nat_emulator {

class ThreadPool {
public:
    static ThreadPool& instance();
    ~ThreadPool();

    // Calls `work` on this thread and, as they become free, on up to `helpers` others; returns
    // when every call has ended. Helpers that have not begun by the time this thread is done are
    // not waited for, so launches from several threads never wait for each other.
    void run(unsigned helpers, const std::function<void()>& work);

private:
    struct Task {
        const std::function<void()>* work;
        unsigned wanted;   // helpers still to begin
        unsigned running;  // helpers at work
        Task* next;
    };
    void helper();

    std::mutex mutex_;
    std::condition_variable wake_, done_;
    Task* tasks_ = nullptr;
    bool stop_ = false;
    std::vector<std::thread> threads_;
};

}  // namespace nat_emulator
