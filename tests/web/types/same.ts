// Compiles only if ternd.d.ts says what ternd.js has: `inferred` is ternd.js as the compiler understands it.
import * as inferred from "inferred";
import * as written from "ternd";

type Public<T> = Exclude<Extract<keyof T, string>, `_${string}`>;
/** `true`, or what only one of them has. */
type Same<A, B> = [Exclude<A, B> | Exclude<B, A>] extends [never] ? true : Exclude<A, B> | Exclude<B, A>;

export const names: [
  Same<Public<typeof inferred>, Public<typeof written>>,
  Same<Public<inferred.Room>, Public<written.Room>>,
  Same<Public<inferred.Peer>, Public<written.Peer>>,
  Same<Public<inferred.RoomError>, Public<written.RoomError>>,
] = [true, true, true, true];

/** What there is can be used as it is written: the kinds of fields, the parameters and the results of methods. */
export function usable(room: inferred.Room, peer: inferred.Peer, error: inferred.RoomError): [written.Room, written.Peer, written.RoomError] {
  return [room, peer, error];
}

export const functions: Pick<typeof written, "join" | "endpoints" | "backoff" | "rates" | "describePath"> = inferred;
