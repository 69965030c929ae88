export { type RedteamIo, redteam } from './command.ts';
