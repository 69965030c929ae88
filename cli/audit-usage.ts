/** What was asked for makes no sense. The message says why; empty where only the usage is wanted. */
export class WrongAuditUsage extends Error {}
