/* Back end for Linux: registers and interrupt through UIO, contiguous memory through u-dma-buf.
 *
 * where: "UIO,BUFFER", the names of both devices (default "bitloom,udmabuf-bitloom", as bitloom.dtso makes them); a
 * leading "poll:" does without the interrupt. The buffer is mapped with caches on and synchronized through sysfs. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "bitloom.h"

struct linux_hw {
  volatile uint32_t *registers;
  uint64_t register_bytes, buffer_bytes;
  uint8_t *buffer;
  int uio, memory;
  char sysfs[160];
  bool failed; /* a synchronization could not be written */
};

static uint32_t read32(void *context, uint32_t offset) { return ((struct linux_hw *)context)->registers[offset / 4]; }

static void write32(void *context, uint32_t offset, uint32_t value) {
  ((struct linux_hw *)context)->registers[offset / 4] = value;
}

static uint64_t time_us(void *context) {
  struct timespec now;
  (void)context;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

/* The kernel masks the interrupt when it comes; writing 1 unmasks it. It is a level: none is lost before the write. */
static int wait_interrupt(void *context, uint64_t timeout_us) {
  const struct linux_hw *hw = context;
  const uint32_t unmask = 1;
  uint32_t count = 0;
  struct pollfd file = {.fd = hw->uio, .events = POLLIN};
  if (hw->failed || write(hw->uio, &unmask, sizeof unmask) != sizeof unmask) return -1;
  const uint64_t ms = (timeout_us + 999) / 1000;
  const int ready = poll(&file, 1, ms > INT32_MAX ? INT32_MAX : (int)ms);
  if (ready < 0) return errno == EINTR ? 1 : -1; /* a signal: the driver looks at CTRL and waits on */
  if (ready == 0) return 0;
  return read(hw->uio, &count, sizeof count) == sizeof count ? 1 : -1;
}

static bool sysfs_write(const struct linux_hw *hw, const char *name, uint64_t value) {
  char path[256], text[32];
  snprintf(path, sizeof path, "%s/%s", hw->sysfs, name);
  const int file = open(path, O_WRONLY | O_CLOEXEC), length = snprintf(text, sizeof text, "%" PRIu64, value);
  if (file < 0) return false;
  const bool done = write(file, text, (size_t)length) == length;
  close(file);
  return done;
}

static bool number_in(const char *path, uint64_t *value) {
  char text[32] = "";
  const int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return false;
  const ssize_t length = read(file, text, sizeof text - 1);
  close(file);
  if (length <= 0) return false;
  *value = strtoull(text, NULL, 0);
  return true;
}

static void synchronize(struct linux_hw *hw, const char *side, uint64_t direction, uint64_t offset, uint64_t bytes) {
  if (bytes == 0) return;
  if (!sysfs_write(hw, "sync_offset", offset) || !sysfs_write(hw, "sync_size", bytes) ||
      !sysfs_write(hw, "sync_direction", direction) || !sysfs_write(hw, side, 1))
    hw->failed = true;
}

static void to_device(void *context, uint64_t offset, uint64_t bytes) {
  synchronize(context, "sync_for_device", 1, offset, bytes);
}

static void from_device(void *context, uint64_t offset, uint64_t bytes) {
  synchronize(context, "sync_for_cpu", 2, offset, bytes);
}

/* The number of the UIO device of a name, or -1. */
static int find_uio(const char *name) {
  DIR *folder = opendir("/sys/class/uio");
  int found = -1;
  for (struct dirent *entry; folder != NULL && found < 0 && (entry = readdir(folder)) != NULL;) {
    char path[320], text[64] = "";
    snprintf(path, sizeof path, "/sys/class/uio/%.200s/name", entry->d_name);
    FILE *file = fopen(path, "r");
    if (file == NULL) continue;
    if (fgets(text, sizeof text, file) != NULL) {
      text[strcspn(text, "\n")] = '\0';
      if (strcmp(text, name) == 0) sscanf(entry->d_name, "uio%d", &found);
    }
    fclose(file);
  }
  if (folder != NULL) closedir(folder);
  return found;
}

/* All of a device file, opened as *file, in memory; NULL with an error told. */
static void *map_device(const char *path, uint64_t bytes, int *file, struct bitloom_error *error) {
  *file = open(path, O_RDWR | O_CLOEXEC);
  if (*file < 0) {
    bitloom_fail(error, BITLOOM_E_SYSTEM, "cannot open %s: %s; run as root or change its rights", path, strerror(errno));
    return NULL;
  }
  void *at = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_SHARED, *file, 0);
  if (at != MAP_FAILED) return at;
  bitloom_fail(error, BITLOOM_E_SYSTEM, "cannot map %s: %s", path, strerror(errno));
  return NULL;
}

static int open_registers(struct linux_hw *hw, const char *name, struct bitloom_error *error) {
  char path[96];
  const int number = find_uio(name);
  if (number < 0)
    return bitloom_fail(error, BITLOOM_E_SYSTEM,
                        "no UIO device is called '%s'; load bitloom.dtso, and boot with "
                        "uio_pdrv_genirq.of_id=generic-uio", name);
  snprintf(path, sizeof path, "/sys/class/uio/uio%d/maps/map0/size", number);
  if (!number_in(path, &hw->register_bytes)) return bitloom_fail(error, BITLOOM_E_SYSTEM, "cannot read %s", path);
  snprintf(path, sizeof path, "/dev/uio%d", number);
  void *at = map_device(path, hw->register_bytes, &hw->uio, error);
  hw->registers = at;
  return at != NULL ? BITLOOM_OK : error->status;
}

static int open_memory(struct linux_hw *hw, const char *name, uint64_t *physical, struct bitloom_error *error) {
  static const char *const kClasses[] = {"u-dma-buf", "udmabuf"};
  char path[256];
  bool found = false;
  for (size_t i = 0; i < 2 && !found; ++i) {
    snprintf(hw->sysfs, sizeof hw->sysfs, "/sys/class/%s/%.100s", kClasses[i], name);
    snprintf(path, sizeof path, "%s/phys_addr", hw->sysfs);
    found = number_in(path, physical);
  }
  snprintf(path, sizeof path, "%s/size", hw->sysfs);
  if (!found || !number_in(path, &hw->buffer_bytes))
    return bitloom_fail(error, BITLOOM_E_SYSTEM,
                        "no u-dma-buf buffer is called '%s'; load the module u-dma-buf and bitloom.dtso", name);
  snprintf(path, sizeof path, "/dev/%.100s", name);
  void *at = map_device(path, hw->buffer_bytes, &hw->memory, error);
  hw->buffer = at;
  return at != NULL ? BITLOOM_OK : error->status;
}

int bitloom_backend_open(struct bitloom_hw *hw, const char *where, struct bitloom_error *error) {
  char names[128];
  struct linux_hw *own = calloc(1, sizeof *own);
  memset(error, 0, sizeof *error);
  memset(hw, 0, sizeof *hw);
  if (own == NULL) return bitloom_fail(error, BITLOOM_E_SYSTEM, "no memory");
  own->uio = own->memory = -1;
  hw->context = own;
  const bool polling = where != NULL && strncmp(where, "poll:", 5) == 0;
  snprintf(names, sizeof names, "%s", where == NULL ? "" : polling ? where + 5 : where);
  char *buffer = strchr(names, ',');
  if (buffer != NULL) *buffer++ = '\0';
  if (open_registers(own, names[0] != '\0' ? names : "bitloom", error) != BITLOOM_OK ||
      open_memory(own, buffer != NULL ? buffer : "udmabuf-bitloom", &hw->physical, error) != BITLOOM_OK) {
    bitloom_backend_close(hw);
    return error->status;
  }
  hw->read32 = read32;
  hw->write32 = write32;
  hw->time_us = time_us;
  hw->wait = polling ? NULL : wait_interrupt;
  hw->to_device = to_device;
  hw->from_device = from_device;
  hw->memory = own->buffer;
  hw->bytes = own->buffer_bytes;
  return BITLOOM_OK;
}

void bitloom_backend_close(struct bitloom_hw *hw) {
  struct linux_hw *own = hw->context;
  if (own == NULL) return;
  if (own->registers != NULL) munmap((void *)(uintptr_t)own->registers, (size_t)own->register_bytes);
  if (own->buffer != NULL) munmap(own->buffer, (size_t)own->buffer_bytes);
  if (own->uio >= 0) close(own->uio);
  if (own->memory >= 0) close(own->memory);
  free(own);
  hw->context = NULL;
}
