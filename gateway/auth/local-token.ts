export { readLocalToken } from '#core/local-token';
