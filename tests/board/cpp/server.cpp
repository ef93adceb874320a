// The simulated accelerator as a board: registers, interrupt and DDR over a Unix socket, for one client.
// Usage: simulator SOCKET BYTES STALL_PROBABILITY [FAULT_KIND PORT AT WRITE]
// Requests: r OFFSET | w OFFSET VALUE (u32), t, i CYCLES (u64), d OFFSET BYTES (u64) data, f OFFSET BYTES (u64).
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "machine.h"

namespace bitloom {
namespace {

constexpr uint64_t kBase = 0x480000000ull;  // above 4 GiB, so that the HI registers matter

class Client {
 public:
  explicit Client(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
    const int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    if (bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 || listen(listener, 1) != 0)
      throw Failure(kBadJob, "cannot listen at " + path);
    file_ = accept(listener, nullptr, nullptr);
  }
  // False at the end of the stream.
  bool read(void* to, size_t bytes) {
    auto* at = static_cast<uint8_t*>(to);
    while (bytes > 0) {
      const ssize_t got = ::read(file_, at, bytes);
      if (got <= 0) return false;
      at += got;
      bytes -= static_cast<size_t>(got);
    }
    return true;
  }
  void write(const void* from, size_t bytes) {
    const auto* at = static_cast<const uint8_t*>(from);
    while (bytes > 0) {
      const ssize_t sent = ::write(file_, at, bytes);
      if (sent <= 0) throw Failure(kBadJob, "the client is gone");
      at += sent;
      bytes -= static_cast<size_t>(sent);
    }
  }
  template <class T>
  T get() {
    T value{};
    if (!read(&value, sizeof value)) throw Failure(kBadJob, "a request ends early");
    return value;
  }

 private:
  int file_ = -1;
};

void serve(Machine& machine, Client& client) {
  char request = 0;
  while (client.read(&request, 1)) {
    if (request == 'r') {
      const uint32_t value = machine.lite_read(client.get<uint32_t>());
      client.write(&value, sizeof value);
    } else if (request == 'w') {
      const uint32_t offset = client.get<uint32_t>();
      machine.lite_write(offset, client.get<uint32_t>());
      client.write("k", 1);
    } else if (request == 't') {
      const uint64_t now = machine.cycle();
      client.write(&now, sizeof now);
    } else if (request == 'i') {
      const uint64_t until = machine.cycle() + client.get<uint64_t>();
      while (!machine.interrupt() && machine.cycle() < until) machine.step();
      client.write(machine.interrupt() ? "1" : "0", 1);
    } else {
      const uint64_t offset = client.get<uint64_t>(), bytes = client.get<uint64_t>();
      Region& region = machine.ddr.regions[0];
      if (!region.holds(kBase + offset, bytes)) throw Failure(kBadJob, "a copy outside the buffer at " + hex(offset));
      if (request == 'd') {
        client.read(region.bytes.data() + offset, bytes);
        client.write("k", 1);
      } else {
        client.write(region.bytes.data() + offset, bytes);
      }
    }
  }
  if (machine.ddr.outside()) throw Failure(kProtocol, "the accelerator left the buffer at " + hex(machine.ddr.outside_address()));
}

void inject(Machine& machine, char** words) {
  static const std::map<std::string, Fault> kKinds = {{"response", Fault::Response}, {"stuck_data", Fault::StuckData}};
  FaultPlan* plan = machine.fault_plan(words[1], std::atoi(words[3]) != 0);
  if (plan == nullptr) throw Failure(kBadJob, "no such port");
  plan->kind = kKinds.at(words[0]);
  plan->at = std::strtoull(words[2], nullptr, 10);
  plan->write = std::atoi(words[3]) != 0;
}

}  // namespace
}  // namespace bitloom

int main(int argc, char** argv) {
  using namespace bitloom;
  if (argc != 4 && argc != 8) return kBadJob;
  VerilatedContext context;
  Trace trace(BITLOOM_P, BITLOOM_C, BITLOOM_ROWS);
  try {
    Machine machine(context, trace);
    machine.ddr.regions.push_back({"buffer", kBase, std::vector<uint8_t>(std::strtoull(argv[2], nullptr, 10), 0x80)});
    machine.stalls.configure(std::atof(argv[3]), 1);
    if (argc == 8) inject(machine, argv + 4);
    machine.reset(16);
    Client client(argv[1]);
    serve(machine, client);
    machine.finish();
    return kOk;
  } catch (const Failure& failure) {
    std::fprintf(stderr, "%s\n", failure.what());
    return failure.code;
  }
}
