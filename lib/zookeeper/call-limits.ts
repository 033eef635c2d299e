import type { CallOptions } from "./api";
import { AbortError, InvalidArgumentError, OperationTimeoutError, type Outcome } from "./errors";
import type { Clock } from "./options";
import type { Request } from "./request";

export const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** Lets a signal or a time limit end a request before its reply. A request that was not sent yet never is. */
export function limitCall(request: Request, options: CallOptions, clock: Clock): void {
  const { signal, timeoutMs } = options;
  if (signal?.aborted) {
    request.reject(abortError(request, signal));
    return;
  }
  if (timeoutMs !== undefined && !(timeoutMs > 0)) {
    throw new InvalidArgumentError(`timeoutMs is ${timeoutMs}; it must be greater than 0.`, "terminal");
  }
  // A longer delay would be over at once: that is what timers do with it.
  const timer =
    timeoutMs === undefined || timeoutMs > LONGEST_TIMER_MS
      ? undefined
      : clock.setTimeout(() => request.reject(timeoutError(request, timeoutMs)), timeoutMs);
  const onAbort = () => request.reject(abortError(request, signal!));
  signal?.addEventListener("abort", onAbort, { once: true });
  request.onSettled = () => {
    if (timer !== undefined) clock.clearTimeout(timer);
    signal?.removeEventListener("abort", onAbort);
  };
}

function outcomeOf(request: Request): Outcome {
  return request.isSent && request.isWrite ? "ambiguous" : "retryable";
}

function standing(request: Request): string {
  return request.isSent ? "its reply has not come" : "it was not sent";
}

function abortError(request: Request, signal: AbortSignal): AbortError {
  const text = `${request.description}: the call was aborted; ${standing(request)}.`;
  return new AbortError(text, outcomeOf(request), undefined, request.path, { cause: signal.reason });
}

function timeoutError(request: Request, timeoutMs: number): OperationTimeoutError {
  const text = `${request.description}: ${timeoutMs} ms have passed, and ${standing(request)}.`;
  return new OperationTimeoutError(text, outcomeOf(request), undefined, request.path);
}
