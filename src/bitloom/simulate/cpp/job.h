// A job: everything that a simulation is told, read from the text file job.txt of its folder (see simulate/job.py).
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "common.h"

namespace bitloom {

struct LoadJob {
  uint64_t address = 0, offset = 0, bytes = 0;
  std::string file;
};
struct RegionJob {
  std::string name;
  uint64_t base = 0, bytes = 0;
  uint32_t fill = 0;
  bool refill = false;  // before every run
};
struct RegisterJob {
  std::string name;
  uint32_t address = 0, value = 0;
};
struct FaultJob {
  std::string port;
  FaultPlan plan;
};
struct ReadJob {
  uint64_t address = 0, bytes = 0;
};

struct RunJob {
  std::vector<LoadJob> loads;
  std::vector<RegisterJob> writes;
  std::vector<ReadJob> reads;
  std::vector<FaultJob> faults;
};

struct Job {
  std::map<std::string, double> params;
  std::vector<RegionJob> regions;
  std::vector<LoadJob> loads;
  std::vector<RegisterJob> expects, readbacks;
  std::vector<std::pair<uint32_t, uint32_t>> dump_rows;
  std::vector<RunJob> runs;

  static Job read(const std::string& folder);
  // The value of a parameter; Failure(kBadJob) where it is missing.
  double param(const std::string& name) const;
  uint64_t count(const std::string& name) const { return static_cast<uint64_t>(param(name)); }
};

}  // namespace bitloom
