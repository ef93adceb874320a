#include "job.h"

#include <fstream>
#include <sstream>

namespace bitloom {

namespace {

uint64_t number(std::istringstream& line, const std::string& text) {
  std::string word;
  if (!(line >> word)) throw Failure(kBadJob, "job.txt: a number is missing in '" + text + "'");
  try {
    size_t used = 0;
    const uint64_t value = std::stoull(word, &used, 0);
    if (used == word.size()) return value;
  } catch (const std::logic_error&) {
  }
  throw Failure(kBadJob, "job.txt: '" + word + "' is no number in '" + text + "'");
}

Fault fault_kind(const std::string& name) {
  if (name == "response") return Fault::Response;
  if (name == "early_last") return Fault::EarlyLast;
  if (name == "late_last") return Fault::LateLast;
  if (name == "stuck_address") return Fault::StuckAddress;
  if (name == "stuck_data") return Fault::StuckData;
  if (name == "stuck_response") return Fault::StuckResponse;
  throw Failure(kBadJob, "job.txt: unknown fault '" + name + "'");
}

}  // namespace

double Job::param(const std::string& name) const {
  const auto found = params.find(name);
  if (found == params.end()) throw Failure(kBadJob, "job.txt: parameter '" + name + "' is missing");
  return found->second;
}

Job Job::read(const std::string& folder) {
  std::ifstream file(folder + "/job.txt");
  if (!file) throw Failure(kBadJob, "cannot read " + folder + "/job.txt");
  Job job;
  std::string text;
  std::getline(file, text);
  if (text != "bitloom-job 1") throw Failure(kBadJob, "job.txt: first line '" + text + "', expected 'bitloom-job 1'");
  while (std::getline(file, text)) {
    std::istringstream line(text);
    std::string word;
    if (!(line >> word)) continue;
    RunJob* run = job.runs.empty() ? nullptr : &job.runs.back();
    if (word == "run") {
      job.runs.emplace_back();
    } else if (word == "param") {
      std::string name;
      double value = 0;
      if (!(line >> name >> value)) throw Failure(kBadJob, "job.txt: cannot read '" + text + "'");
      job.params[name] = value;
    } else if (word == "region") {
      RegionJob region;
      line >> region.name;
      region.base = number(line, text);
      region.bytes = number(line, text);
      region.fill = static_cast<uint32_t>(number(line, text));
      region.refill = number(line, text) != 0;
      job.regions.push_back(region);
    } else if (word == "load") {
      LoadJob load;
      load.address = number(line, text);
      line >> load.file;
      load.offset = number(line, text);
      load.bytes = number(line, text);
      (run ? run->loads : job.loads).push_back(load);
    } else if (word == "expect" || word == "readback" || word == "write") {
      RegisterJob entry;
      line >> entry.name;
      entry.address = static_cast<uint32_t>(number(line, text));
      if (word != "readback") entry.value = static_cast<uint32_t>(number(line, text));
      if (word == "write" && !run) throw Failure(kBadJob, "job.txt: 'write' before the first 'run'");
      (word == "expect" ? job.expects : word == "readback" ? job.readbacks : run->writes).push_back(entry);
    } else if (word == "dump_rows") {
      const uint32_t first = static_cast<uint32_t>(number(line, text));
      job.dump_rows.emplace_back(first, static_cast<uint32_t>(number(line, text)));
    } else if (word == "read" && run) {
      const uint64_t address = number(line, text);
      run->reads.push_back({address, number(line, text)});
    } else if (word == "fault" && run) {
      FaultJob fault;
      std::string kind, side;
      line >> kind >> fault.port >> side;
      fault.plan.kind = fault_kind(kind);
      fault.plan.write = side == "write";
      fault.plan.at = number(line, text);
      run->faults.push_back(fault);
    } else {
      throw Failure(kBadJob, "job.txt: cannot read '" + text + "'");
    }
  }
  if (job.runs.empty()) throw Failure(kBadJob, "job.txt: no run");
  return job;
}

}  // namespace bitloom
