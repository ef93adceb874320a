// Runs a job folder on the simulated accelerator and writes results.txt, output.bin and dump.bin into it.
// Usage: simulator FOLDER. Exit codes: common.h.
#include <chrono>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <memory>

#include "bitloom_regs.h"
#include "job.h"
#include "machine.h"

namespace bitloom {

namespace {

class Simulation {
 public:
  Simulation(const std::string& folder, VerilatedContext& context)
      : folder_(folder), job_(Job::read(folder)), trace_(BITLOOM_P, BITLOOM_C, BITLOOM_ROWS), machine_(context, trace_) {
    results_ = std::fopen((folder + "/results.txt").c_str(), "w");
    output_ = std::fopen((folder + "/output.bin").c_str(), "wb");
    if (results_ == nullptr || output_ == nullptr) throw Failure(kBadJob, "cannot write into " + folder);
    std::fprintf(results_, "bitloom-results 1\n");
    trace_.dump = job_.param("dump") != 0;
    trace_.row_ranges = job_.dump_rows;
    trace_.open(folder + "/dump.bin");
    configure();
  }

  ~Simulation() {
    g_trace = nullptr;
    if (results_ != nullptr) std::fclose(results_);
    if (output_ != nullptr) std::fclose(output_);
  }

  void run() {
    machine_.reset(16);
    g_trace = &trace_;  // before the reset, registers and what they trace mean nothing
    for (const RegisterJob& expect : job_.expects) {
      const uint32_t value = machine_.lite_read(expect.address);
      if (value != expect.value) {
        throw Failure(kBadJob, "register " + expect.name + " of the simulated hardware is " + hex(value) + ", expected " +
                                   hex(expect.value));
      }
    }
    for (size_t i = 0; i < job_.runs.size(); ++i) run_one(i, job_.runs[i]);
    machine_.finish();
    trace_.close();
    std::fprintf(results_, "rss_kib %llu\nend\n", peak_kib());
    if (std::fflush(results_) != 0 || std::fflush(output_) != 0)
      throw Failure(kBadJob, "results could not be written: disk full?");
  }

  void fail(const Failure& failure) {
    if (results_ == nullptr) return;
    write_commands();
    std::fprintf(results_, "failure %d %s\n", failure.code, failure.what());
    std::fflush(results_);
  }

 private:
  void configure() {
    DdrTiming& timing = machine_.ddr.timing;
    timing.peak = job_.param("peak_bytes");
    timing.rate = job_.param("rate_bytes");
    timing.read_latency = job_.count("read_latency");
    timing.write_latency = job_.count("write_latency");
    timing.refresh_every = job_.count("refresh_every");
    timing.refresh_cycles = job_.count("refresh_cycles");
    timing.refresh_phase = job_.count("refresh_phase");
    timing.outstanding = static_cast<uint32_t>(job_.count("outstanding"));
    if (timing.outstanding < 1 || timing.outstanding > kQueue / 2) throw Failure(kBadJob, "outstanding must be 1 .. 32");
    if (timing.refresh_every <= timing.refresh_cycles) throw Failure(kBadJob, "refresh takes all the time");
    machine_.stalls.configure(job_.param("stall_probability"), job_.count("seed"));
    for (const RegionJob& region : job_.regions) {
      Region made{region.name, region.base, {}};
      made.bytes.assign(region.bytes, static_cast<uint8_t>(region.fill));
      machine_.ddr.regions.push_back(std::move(made));
    }
    for (const LoadJob& load : job_.loads) load_bytes(load);
  }

  void load_bytes(const LoadJob& load) {
    Region* region = machine_.ddr.holding(load.address, load.bytes);
    if (region == nullptr) {
      throw Failure(kBadJob, "load of " + std::to_string(load.bytes) + " bytes at " + hex(load.address) +
                                 " lies outside every DDR region");
    }
    std::ifstream file(folder_ + "/" + load.file, std::ios::binary);
    file.seekg(static_cast<std::streamoff>(load.offset));
    char* to = reinterpret_cast<char*>(region->bytes.data() + (load.address - region->base));
    if (!file.read(to, static_cast<std::streamsize>(load.bytes))) throw Failure(kBadJob, "cannot read " + load.file);
  }

  // Waits for done, by interrupt or by polling CTRL.
  void wait_done(size_t index, uint64_t start) {
    const uint64_t limit = start + job_.count("max_cycles"), every = job_.count("poll_cycles");
    for (;;) {
      if (every == 0) {
        while (!machine_.interrupt() && machine_.cycle() < limit) machine_.step();
        if (machine_.interrupt()) {
          acknowledge();
          return;
        }
      } else {
        if (machine_.lite_read(BITLOOM_REG_CTRL) & 2u) return;
        for (uint64_t i = 0; i < every; ++i) machine_.step();
      }
      if (machine_.cycle() >= limit) {
        const std::string ports = machine_.describe_ports();
        std::string layer = "unknown";
        try {
          layer = std::to_string(machine_.lite_read(BITLOOM_REG_LAYER));
        } catch (const Failure&) {
        }
        throw Failure(kTimeout, "run " + std::to_string(index) + " was not done after " +
                                    std::to_string(job_.count("max_cycles")) + " cycles, in layer " + layer + ports);
      }
    }
  }

  // The order of a driver: read and clear the pending interrupts, then CTRL, whose done bit clears on read.
  void acknowledge() {
    const uint32_t pending = machine_.lite_read(BITLOOM_REG_ISR);
    if (pending == 0) throw Failure(kProtocol, "interrupt_o is high and ISR is zero");
    machine_.lite_write(BITLOOM_REG_ISR, pending);
    for (int i = 0; i < 4; ++i) machine_.step();
    if (machine_.interrupt()) throw Failure(kProtocol, "interrupt_o stays high after ISR was cleared");
    if ((machine_.lite_read(BITLOOM_REG_CTRL) & 2u) == 0) throw Failure(kProtocol, "interrupt_o came without done in CTRL");
  }

  void run_one(size_t index, const RunJob& run) {
    // Nothing of an earlier image may pass for a result of this one.
    for (size_t i = 0; i < job_.regions.size(); ++i) {
      Region& region = machine_.ddr.regions[i];
      if (job_.regions[i].refill) std::memset(region.bytes.data(), static_cast<int>(job_.regions[i].fill), region.bytes.size());
    }
    for (const LoadJob& load : run.loads) load_bytes(load);
    machine_.begin_run();
    machine_.ddr.forget_outside();
    trace_.begin_run();
    for (const FaultJob& fault : run.faults) {
      FaultPlan* plan = machine_.fault_plan(fault.port, fault.plan.write);
      if (plan == nullptr) throw Failure(kBadJob, "fault on port '" + fault.port + "', which this build does not have");
      *plan = fault.plan;
    }
    for (const RegisterJob& write : run.writes) machine_.lite_write(write.address, write.value);
    if (job_.count("poll_cycles") == 0) {
      machine_.lite_write(BITLOOM_REG_IER, 3);
      machine_.lite_write(BITLOOM_REG_GIE, 1);
    }
    start_ = machine_.cycle();
    const auto clock = std::chrono::steady_clock::now();
    machine_.lite_write(BITLOOM_REG_CTRL, 1);
    wait_done(index, start_);
    const uint64_t end = machine_.cycle();
    const double wall = std::chrono::duration<double>(std::chrono::steady_clock::now() - clock).count();
    std::fprintf(results_, "run %zu\nstart %llu\ncycles %llu\nwall_s %.6f\n", index, ull(start_), ull(end - start_), wall);
    for (const FaultJob& fault : run.faults)
      std::fprintf(results_, "fired %d\n", machine_.fault_plan(fault.port, fault.plan.write)->fired ? 1 : 0);
    const bool writes_open = !machine_.data_write.idle();
    machine_.begin_run();  // faults end with the run
    uint32_t error = 0;
    for (const RegisterJob& readback : job_.readbacks) {
      const uint32_t value = machine_.lite_read(readback.address);
      if (readback.address == BITLOOM_REG_ERROR) error = value;
      std::fprintf(results_, "register %s %u\n", readback.name.c_str(), value);
    }
    if (machine_.ddr.outside()) std::fprintf(results_, "outside %llu\n", ull(machine_.ddr.outside_address()));
    if (writes_open && error == 0) throw Failure(kProtocol, "done came before the last write response on port d");
    settle(index);
    write_commands();
    write_ports();
    for (const ReadJob& read : run.reads) write_output(read);
    std::fprintf(results_, "endrun\n");
  }

  // Lets the ports finish what is under way, so that a run never meets beats of the one before it.
  void settle(size_t index) {
    const uint64_t limit = machine_.cycle() + job_.count("settle_cycles");
    while (!machine_.idle()) {
      machine_.step();
      if (machine_.cycle() >= limit) {
        throw Failure(kTimeout, "run " + std::to_string(index) + " is done, but its AXI transactions do not end" +
                                    machine_.describe_ports());
      }
    }
  }

  void write_commands() {
    for (const CommandStamp& c : trace_.commands) {
      std::fprintf(results_, "command %d %llu %llu %d %u %u %u %u %u %u %llu %llu\n", c.layer, ull(c.start), ull(c.end),
                   c.has_causes ? 1 : 0, c.causes[0], c.causes[1], c.causes[2], c.causes[3], c.causes[4], c.causes[5],
                   ull(c.dump_offset), ull(c.dump_words));
    }
  }

  void write_port(const char* side, const std::string& name, PortStats& s) {
    std::fprintf(results_, "port %s_%s %llu %llu %llu %llu %llu %llu\n", name.c_str(), side, ull(s.bursts), ull(s.beats),
                 ull(s.starved), ull(s.held), ull(s.latency_sum), ull(s.outstanding_max));
    s = {};
  }

  void write_ports() {
    machine_.each_read_port([this](ReadPort& port) { write_port("read", port.name, port.stats); });
    write_port("write", "d", machine_.data_write.stats);
  }

  void write_output(const ReadJob& read) {
    Region* region = machine_.ddr.holding(read.address, read.bytes);
    if (region == nullptr) throw Failure(kBadJob, "read at " + hex(read.address) + " lies outside every DDR region");
    std::fprintf(results_, "output %llu %llu %llu\n", ull(read.address), ull(output_at_), ull(read.bytes));
    const uint8_t* from = region->bytes.data() + (read.address - region->base);
    if (std::fwrite(from, 1, read.bytes, output_) != read.bytes)
      throw Failure(kBadJob, "output.bin could not be written: disk full?");
    output_at_ += read.bytes;
  }

  // Peak resident memory of this process; getrusage would count its parent's from before exec.
  static unsigned long long peak_kib() {
    std::ifstream status("/proc/self/status");
    std::string word;
    while (status >> word) {
      unsigned long long kib = 0;
      if (word == "VmHWM:" && status >> kib) return kib;
    }
    return 0;
  }

  static unsigned long long ull(uint64_t value) { return value; }

  std::string folder_;
  Job job_;
  Trace trace_;
  Machine machine_;
  std::FILE* results_ = nullptr;
  std::FILE* output_ = nullptr;
  uint64_t output_at_ = 0, start_ = 0;
};

int run_folder(const std::string& folder, VerilatedContext& context) {
  std::unique_ptr<Simulation> simulation;
  try {
    simulation = std::make_unique<Simulation>(folder, context);
    simulation->run();
    return kOk;
  } catch (const Failure& failure) {
    std::fprintf(stderr, "%s\n", failure.what());
    if (simulation) simulation->fail(failure);
    return failure.code;
  }
}

}  // namespace

}  // namespace bitloom

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: %s FOLDER [+verilator+...]\n", argv[0]);
    return bitloom::kBadJob;
  }
  VerilatedContext context;
  context.commandArgs(argc, argv);
  return bitloom::run_folder(argv[1], context);
}
