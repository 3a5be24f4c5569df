/* Start of a program on a Cortex-M: vector table, copy of initialised data, then main. For QEMU's machines mps2-an385
   (Cortex-M3) and mps2-an386 (Cortex-M4); printf and the exit code go to the host through semihosting. */
#include <stdint.h>
#include <stdlib.h>

extern uint32_t data_source[], data_start[], data_end[], bss_start[], bss_end[], stack_top[];
int main(void);
void initialise_monitor_handles(void);

void reset(void) {
  const uint32_t *from = data_source;
  for (uint32_t *to = data_start; to < data_end; ++to) *to = *from++;
  for (uint32_t *to = bss_start; to < bss_end; ++to) *to = 0;
  initialise_monitor_handles();
  exit(main());
}

/* newlib's exit calls it; there is nothing to end. */
void _fini(void) {}

void fault(void) { _Exit(99); }

typedef void (*handler)(void);
__attribute__((section(".vectors"), used)) static const struct {
  const uint32_t *stack;
  handler handlers[15];
} vectors = {stack_top, {reset, fault, fault, fault, fault, fault}};
