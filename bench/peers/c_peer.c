/* The C client (multi-threaded) as a contestant: see driver.ts for what is asked and answered. */
#define _GNU_SOURCE
#define THREADED
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>
#include <zookeeper/zookeeper.h>

enum { ZNODES = 100, MULTI_SIZE = 12, CREATES = 100, VALUE_BYTES = 100, PATH_BYTES = 96, LATENCIES = 1000000 };

static zhandle_t *client;
static char value[VALUE_BYTES];
static char row[32], tag[64];
static int in_flight, begun, completed;
static long long end_us;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static sem_t over, room;

static long long now_us(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000000LL + now.tv_nsec / 1000;
}

static long long cpu_us(void) {
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000LL + usage.ru_utime.tv_usec + usage.ru_stime.tv_usec;
}

static void begin(int number);

static void finish(int code) {
  if (code != ZOK) fprintf(stderr, "%s\n", zerror(code));
  int number = -1;
  pthread_mutex_lock(&lock);
  completed++;
  if (now_us() < end_us) number = begun++;
  else if (completed == begun && begun >= in_flight) sem_post(&over);
  pthread_mutex_unlock(&lock);
  if (number >= 0) begin(number);
}

static void on_data(int code, const char *data, int length, const struct Stat *stat, const void *context) { finish(code); }
static void on_stat(int code, const struct Stat *stat, const void *context) { finish(code); }
static void on_string(int code, const char *name, const void *context) { finish(code); }
static void on_multi(int code, const void *context) {
  free((void *)context);
  finish(code);
}

/* The operations, their paths and results in one block, which lives until the reply. */
struct multi {
  zoo_op_t ops[CREATES];
  zoo_op_result_t results[CREATES];
  char paths[CREATES][PATH_BYTES];
  char names[CREATES][PATH_BYTES];
  struct Stat stat;
};

static void begin_multi(int number, int is_create) {
  struct multi *multi = malloc(sizeof *multi);
  int count = is_create ? CREATES : MULTI_SIZE;
  for (int index = 0; index < count; index++) {
    char *path = multi->paths[index];
    if (is_create) {
      snprintf(path, PATH_BYTES, "/created/%s/%d-%d", tag, number, index);
      zoo_create_op_init(&multi->ops[index], path, value, VALUE_BYTES, &ZOO_OPEN_ACL_UNSAFE, 0, multi->names[index], PATH_BYTES);
    } else {
      snprintf(path, PATH_BYTES, "/znode-%d", (number * MULTI_SIZE + index) % ZNODES);
      zoo_set_op_init(&multi->ops[index], path, value, VALUE_BYTES, -1, &multi->stat);
    }
  }
  zoo_amulti(client, count, multi->ops, multi->results, on_multi, multi);
}

static void begin(int number) {
  char path[PATH_BYTES];
  snprintf(path, sizeof path, "/znode-%d", number % ZNODES);
  if (!strcmp(row, "getData")) zoo_aget(client, path, 0, on_data, NULL);
  else if (!strcmp(row, "exists")) zoo_aexists(client, path, 0, on_stat, NULL);
  else if (!strcmp(row, "setData")) zoo_aset(client, path, value, VALUE_BYTES, -1, on_stat, NULL);
  else if (!strcmp(row, "multi")) begin_multi(number, 0);
  else if (!strcmp(row, "creates")) begin_multi(number, 1);
  else {
    snprintf(path, sizeof path, "/created/%s/%d", tag, number);
    zoo_acreate(client, path, value, VALUE_BYTES, &ZOO_OPEN_ACL_UNSAFE, 0, on_string, NULL);
  }
}

/* Keeps so many operations in flight for the time, and waits for the last of them. */
static int drive(long ms) {
  begun = completed = 0;
  end_us = now_us() + ms * 1000;
  for (int index = 0; index < in_flight; index++) {
    pthread_mutex_lock(&lock);
    int number = begun++;
    pthread_mutex_unlock(&lock);
    begin(number);
  }
  sem_wait(&over);
  return completed;
}

static void on_fired(zhandle_t *handle, int type, int state, const char *path, void *context) { sem_post(&over); }
static void on_ignored(int code, const struct Stat *stat, const void *context) {}

static int ascending(const void *one, const void *other) {
  long long difference = *(const long long *)one - *(const long long *)other;
  return (difference > 0) - (difference < 0);
}

static int watch_latency(long ms, long long *p50) {
  static long long latencies[LATENCIES];
  int count = 0;
  for (long long end = now_us() + ms * 1000; now_us() < end && count < LATENCIES; count++) {
    char data[VALUE_BYTES];
    int length = sizeof data;
    zoo_wget(client, "/znode-0", on_fired, NULL, data, &length, NULL);
    long long sent = now_us();
    zoo_aset(client, "/znode-0", value, VALUE_BYTES, -1, on_ignored, NULL);
    sem_wait(&over);
    latencies[count] = now_us() - sent;
  }
  qsort(latencies, count, sizeof *latencies, ascending);
  *p50 = latencies[count / 2];
  return count;
}

static void on_walked(int code, const char *data, int length, const struct Stat *stat, const void *context) { sem_post(&room); }

static int walk(void) {
  struct String_vector tops, names;
  char path[PATH_BYTES], data[VALUE_BYTES];
  int count = 1;
  sem_init(&room, 0, in_flight);
  zoo_get_children(client, "/walk", 0, &tops);
  for (int top = 0; top < tops.count; top++) {
    int length = sizeof data, at = snprintf(path, sizeof path, "/walk/%s", tops.data[top]);
    zoo_get(client, path, 0, data, &length, NULL);
    zoo_get_children(client, path, 0, &names);
    count += 2 + names.count;
    for (int name = 0; name < names.count; name++) {
      snprintf(path + at, sizeof path - at, "/%s", names.data[name]);
      sem_wait(&room);
      zoo_aget(client, path, 0, on_walked, NULL);
    }
    deallocate_String_vector(&names);
  }
  for (int index = 0; index < in_flight; index++) sem_wait(&room);
  deallocate_String_vector(&tops);
  return count;
}

static void on_session(zhandle_t *handle, int type, int state, const char *path, void *context) {}

int main(int argc, char **argv) {
  long ms;
  memset(value, 'x', sizeof value);
  sem_init(&over, 0, 0);
  zoo_set_debug_level(ZOO_LOG_LEVEL_ERROR);
  client = zookeeper_init(argv[1], on_session, 30000, NULL, NULL, 0);
  while (zoo_state(client) != ZOO_CONNECTED_STATE) usleep(1000);
  puts("ready");
  fflush(stdout);
  while (scanf("%31s %d %ld %63s", row, &in_flight, &ms, tag) == 4) {
    long long p50 = 0, cpu = cpu_us(), started = now_us();
    int count = !strcmp(row, "watch") ? watch_latency(ms, &p50) : !strcmp(row, "walk") ? walk() : drive(ms);
    printf("%d %lld %lld %lld\n", count, now_us() - started, cpu_us() - cpu, p50);
    fflush(stdout);
  }
  zookeeper_close(client);
  return 0;
}
