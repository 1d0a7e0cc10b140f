#include "thread_pool.h"

#include <system_error>

namespace nat_emulator {

ThreadPool& ThreadPool::instance() {
    static ThreadPool pool;
    return pool;
}

ThreadPool::~ThreadPool() {
    {
        std::lock_guard<std::mutex> lock(mutex_);
        stop_ = true;
    }
    wake_.notify_all();
    for (std::thread& thread : threads_) thread.join();
}

void ThreadPool::run(unsigned helpers, const std::function<void()>& work) {
    if (helpers == 0) {
        work();
        return;
    }
    Task task = {&work, helpers, 0, nullptr};
    {
        std::lock_guard<std::mutex> lock(mutex_);
        while (threads_.size() < helpers) {
            try {
                threads_.emplace_back([this] { helper(); });
            } catch (const std::system_error&) {
                break;  // fewer helpers, same result
            }
        }
        task.next = tasks_;
        tasks_ = &task;
    }
    wake_.notify_all();
    work();
    std::unique_lock<std::mutex> lock(mutex_);
    for (Task** link = &tasks_; *link != nullptr; link = &(*link)->next) {
        if (*link == &task) {
            *link = task.next;
            break;
        }
    }
    done_.wait(lock, [&task] { return task.running == 0; });
}

void ThreadPool::helper() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
        Task* task = tasks_;
        while (task != nullptr && task->wanted == 0) task = task->next;
        if (task == nullptr) {
            if (stop_) return;
            wake_.wait(lock);
            continue;
        }
        --task->wanted;
        ++task->running;
        lock.unlock();
        (*task->work)();
        lock.lock();
        if (--task->running == 0) done_.notify_all();
    }
}

}  // namespace nat_emulator
