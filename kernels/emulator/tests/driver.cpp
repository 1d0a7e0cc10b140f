// Runs the checks that are linked with it.
//
//   driver [--threads N] [--reverse] [NAME...]   all checks, or those named
//   driver --bugs                                lists planted bugs: finder, name, expected text
//   driver --bug NAME                            runs one; exit status 0: found as expected, 3: not
#include "check.h"

#include <cstdlib>
#include <cstring>

namespace {

const char* finder_name(check::Finder finder) {
    switch (finder) {
        case check::Finder::kLaunch: return "launch";
        case check::Finder::kResult: return "result";
        case check::Finder::kAddress: return "address";
        case check::Finder::kUndefined: return "undefined";
        case check::Finder::kThread: return "thread";
    }
    return "?";
}

int run_bug(const char* name) {
    for (const check::Bug* bug = check::Bug::first(); bug != nullptr; bug = bug->next) {
        if (std::strcmp(bug->name, name) != 0) continue;
        // A sanitizer that finds the bug ends the program before this returns.
        const bool found = bug->run();
        std::printf("%s: %s\n", name, found ? "found" : "NOT FOUND");
        return found ? 0 : 3;
    }
    std::fprintf(stderr, "no planted bug is named %s\n", name);
    return 2;
}

}  // namespace

int main(int count, char** values) {
    std::vector<const char*> names;
    for (int i = 1; i < count; ++i) {
        if (std::strcmp(values[i], "--bugs") == 0) {
            for (const check::Bug* bug = check::Bug::first(); bug != nullptr; bug = bug->next) {
                std::printf("%s %s %s\n", finder_name(bug->finder), bug->name, bug->text);
            }
            return 0;
        }
        if (std::strcmp(values[i], "--bug") == 0 && i + 1 < count) return run_bug(values[i + 1]);
        if (std::strcmp(values[i], "--threads") == 0 && i + 1 < count) {
            check::options().threads = static_cast<unsigned>(std::atoi(values[++i]));
        } else if (std::strcmp(values[i], "--reverse") == 0) {
            check::options().reverse = true;
        } else {
            names.push_back(values[i]);
        }
    }

    int failed = 0, ran = 0;
    for (const check::Case* each = check::Case::first(); each != nullptr; each = each->next) {
        bool wanted = names.empty();
        for (const char* name : names) wanted = wanted || std::strcmp(name, each->name) == 0;
        if (!wanted) continue;
        check::failures() = 0;
        each->run();
        ++ran;
        failed += check::failures() != 0;
        std::printf("%s %s\n", check::failures() != 0 ? "FAILED" : "ok", each->name);
    }
    std::printf("%d checks, %d failed\n", ran, failed);
    return failed != 0 || ran == 0 ? 1 : 0;
}
