/* A clock that was set back, and jumps back again by a minute whenever it is read: preloaded (LD_PRELOAD). */

#define _GNU_SOURCE
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static time_t now = 946684800; /* 2000-01-01 */

static time_t earlier(void) {
  if (now > 86400) now -= 60;
  return now;
}

int clock_gettime(clockid_t clock, struct timespec *at) {
  if (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE) return (int)syscall(SYS_clock_gettime, clock, at);
  *at = (struct timespec){.tv_sec = earlier()};
  return 0;
}

int gettimeofday(struct timeval *at, void *zone) {
  (void)zone;
  *at = (struct timeval){.tv_sec = earlier()};
  return 0;
}

time_t time(time_t *at) {
  time_t seconds = earlier();
  if (at) *at = seconds;
  return seconds;
}
