/** One program that must do the same in every sandbox, whatever isolates it. */
export interface Program {
  /** What it shows, as a fact. */
  readonly fact: string;
  readonly code: string;
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly stdin?: string;
  /** Written to /workspace before. */
  readonly files?: Readonly<Record<string, string>>;
  /** Exactly what it writes; not compared where absent. */
  readonly stdout?: string;
  /** What its stderr matches; empty where absent and the exit is 0. */
  readonly stderr?: RegExp;
  /** Default 0. */
  readonly exit?: number;
  /** A signal that ends it instead. */
  readonly signal?: string;
  /** How many bytes it writes to stdout, of which only head and tail come back. */
  readonly stdoutBytes?: number;
  /** What the interpreter says of an uncaught error. */
  readonly exception?: { readonly type: string; readonly message: string };
  /** Text of the files in /output at its end. */
  readonly artefacts?: Readonly<Record<string, string>>;
}
